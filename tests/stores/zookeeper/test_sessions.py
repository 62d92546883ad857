"""Sessions: they live by our words, tell the truth about their ttl, and leave nothing behind."""

from __future__ import annotations

import logging
import time

import pytest
from testkit.replies import eventually, granted, queued

import locksmith
from locksmith.errors import InvalidTTL
from locksmith.store import Gone, Grant, Held, Lost, Unknown
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import ZooKeeperServer

pytestmark = pytest.mark.zookeeper
TTL = 1.0


def test_a_claim_that_nobody_speaks_of_ends_although_kazoo_could_ping_for_ever(face, store, claim, looker) -> None:
    """An immortal lock otherwise: kazoo's thread runs on where our keeper was stopped."""
    grant = granted(face.run(store.acquire(claim(ttl=TTL), queue=False)))
    eventually(lambda: looker.exists(grant.state.path) is None, 2 * TTL + 5, "the node is gone")
    (word,) = face.run(store.beat([grant], [], within=5.0))
    assert isinstance(word, Lost)
    # A fresh session serves new claims.
    again = granted(face.run(store.acquire(claim(ttl=TTL), queue=False)))
    assert again.token > grant.token


def test_inspecting_and_cells_do_not_prolong_a_silent_claim(face, store, claim, looker) -> None:
    grant = granted(face.run(store.acquire(claim(ttl=TTL), queue=False)))
    until = time.monotonic() + 2 * TTL + 5
    while looker.exists(grant.state.path) is not None:
        assert time.monotonic() < until
        face.run(store.inspect("n"))
        face.run(store.get("c"))


def test_a_claim_is_kept_by_beats_alone(face, store, claim, looker) -> None:
    grant = granted(face.run(store.acquire(claim(ttl=TTL), queue=False)))
    until = time.monotonic() + 4 * TTL
    while time.monotonic() < until:
        (word,) = face.run(store.beat([grant], [], within=5.0))
        assert isinstance(word, Held), word
        time.sleep(TTL / 4)
    assert looker.exists(grant.state.path) is not None


def test_reconnecting_does_not_revive_a_session_that_is_silent(face, claim, namespace, zookeeper_server, looker):
    """Every resumption gives a session its whole ttl again: a network that flaps must not keep a silent claim alive."""
    with Proxy(zookeeper_server.address) as proxy:
        store = face.store(proxy.through(zookeeper_server.url), namespace)
        grant = granted(face.run(store.acquire(claim(ttl=2.0), queue=False)))
        until = time.monotonic() + 20.0
        while looker.exists(grant.state.path) is not None:
            assert time.monotonic() < until
            proxy.drop()
            time.sleep(0.4)
        (word,) = face.run(store.beat([grant], [], within=5.0))
        assert isinstance(word, Lost)


def test_a_waiter_whose_session_ended_is_told_gone_and_never_granted(face, store, claim, looker) -> None:
    held = granted(face.run(store.acquire(claim(), queue=False)))
    ticket = queued(face.run(store.acquire(claim(ttl=TTL, waiter_ttl=TTL), queue=True)))
    eventually(lambda: looker.exists(ticket.state.path) is None, 2 * TTL + 5, "the waiter's node is gone")
    assert face.run(store.release(held))
    (word,) = face.run(store.beat([], [ticket], within=5.0))
    assert isinstance(word, Gone)
    assert not isinstance(ticket.inbox.peek(), Grant)


def test_a_ttl_is_rounded_up_to_what_the_server_keeps_at_least(face, claim, namespace) -> None:
    with ZooKeeperServer(min_session=3.0, max_session=10.0) as server:
        store = face.store(server.url, namespace)
        assert granted(face.run(store.acquire(claim(ttl=1.0), queue=False))).ttl == pytest.approx(3.0)
        with pytest.raises(InvalidTTL, match=r"at most 10 s \(maxSessionTimeout\), not 20"):
            face.run(store.acquire(claim("m", ttl=20.0), queue=True))
        assert not face.run(store.inspect("m")).waiters


def test_closing_ends_sessions_and_leaves_no_node(face, store, claim, looker, namespace, zookeeper_server) -> None:
    def sessions() -> int:
        return zookeeper_server.command("cons").count("sid=")

    before = sessions()
    grants = [granted(face.run(store.acquire(claim(f"n{at}", ttl=30.0 + at), queue=False))) for at in range(3)]
    assert sessions() == before + 3
    for grant in grants:
        assert face.run(store.release(grant))
    face.run(store.close())
    assert looker.exists(f"/{namespace}") is None
    eventually(lambda: sessions() == before, 10.0, "the sessions are gone")


def test_a_name_that_is_used_no_more_is_tidied_up(face, store, claim, looker, monkeypatch) -> None:
    """While others are in use: the node of a name goes some seconds after its last claim."""
    monkeypatch.setattr("locksmith_zookeeper.base.IDLE", 0.0)
    grant = granted(face.run(store.acquire(claim("once"), queue=False)))
    assert face.run(store.release(grant))
    time.sleep(0.01)
    other = granted(face.run(store.acquire(claim("other"), queue=False)))
    assert face.run(store.release(other))
    eventually(lambda: looker.exists(grant.state.parent) is None, 10.0, "the name's node is gone")
    assert face.run(store.release(granted(face.run(store.acquire(claim("once"), queue=False)))))


def test_a_claim_that_lingers_ends_by_itself_and_keeps_its_place(face, store, claim, looker) -> None:
    """run_once(at_least=...): the process may end, the name stays closed; those in line stay there."""
    grant = granted(face.run(store.acquire(claim(), queue=False)))
    ticket = queued(face.run(store.acquire(claim(), queue=True)))
    lingering = grant._replace(claim=grant.claim._replace(ttl=2.0))
    began = time.monotonic()
    words = face.run(store.beat([lingering], [ticket], within=5.0))
    assert [type(word).__name__ for word in words] == ["Held", "Waiting"]
    assert looker.exists(grant.state.path) is None
    while ticket.inbox.peek() is None:
        assert time.monotonic() < began + 15
        face.run(store.wait(ticket, 5.0))
    assert isinstance(ticket.inbox.peek(), Grant)
    assert time.monotonic() - began >= 1.9


def test_a_claim_of_another_session_is_not_said_to_be_renewed(face, claim, namespace, zookeeper_server) -> None:
    """A second client that asks with the owner of the first finds its node, and cannot keep it."""
    one, other = (face.store(zookeeper_server.url, namespace) for _ in range(2))
    grant = granted(face.run(one.acquire(claim(), queue=False)))
    for known in (granted(face.run(other.acquire(grant.claim, queue=False))), grant._replace(state=None)):
        (word,) = face.run(other.beat([known], [], within=5.0))
        assert isinstance(word, Unknown)
    assert face.run(other.release(grant._replace(state=None))) is True


def test_kazoos_log_stays_among_those_who_debug(zookeeper_server, namespace, caplog) -> None:
    with caplog.at_level(logging.INFO), Proxy(zookeeper_server.address) as proxy:
        with locksmith.connect(proxy.through(zookeeper_server.url), namespace=namespace) as client:
            with client.lock("n").acquire():
                proxy.drop()
            assert client.lock("n").acquire(wait=10).release()
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
