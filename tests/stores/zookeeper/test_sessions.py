"""Sessions: they live by our words, tell the truth about their ttl, and leave nothing behind."""

from __future__ import annotations

import logging
import re
import threading
import time

import pytest
from kazoo.security import make_acl
from testkit.replies import eventually, granted, queued

import locksmith
from locksmith.errors import InvalidTTL, StoreAuthError, StoreUnavailable
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
    ttl = 2 * TTL  # a busy machine oversleeps
    grant = granted(face.run(store.acquire(claim(ttl=ttl), queue=False)))
    until = time.monotonic() + 3 * ttl
    while time.monotonic() < until:
        (word,) = face.run(store.beat([grant], [], within=5.0))
        assert isinstance(word, Held), word
        assert looker.exists(grant.state.path) is not None
        time.sleep(ttl / 8)


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
    def sessions() -> set[str]:
        return set(re.findall(r"sid=(0x[0-9a-f]+)", zookeeper_server.command("cons")))

    before = sessions()
    grants = [granted(face.run(store.acquire(claim(f"n{at}", ttl=30.0 + at), queue=False))) for at in range(3)]
    assert len(sessions() - before) == 3
    for grant in grants:
        assert face.run(store.release(grant))
    face.run(store.close())
    assert looker.exists(f"/{namespace}") is None
    eventually(lambda: sessions() <= before, 10.0, "the sessions are gone")


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


def test_a_claim_found_in_another_session_is_not_believed_in(face, claim, namespace, zookeeper_server) -> None:
    """P3: it ends with that session, whose last word was not ours: two would hold it until our next beat."""
    one, other = (face.store(zookeeper_server.url, namespace) for _ in range(2))
    grant = granted(face.run(one.acquire(claim(), queue=False)))
    found = granted(face.run(other.acquire(grant.claim, queue=False)))
    assert found.token == grant.token
    assert found.since == float("-inf")
    waiting = claim()
    assert queued(face.run(one.acquire(waiting, queue=True)))
    ticket = queued(face.run(other.acquire(waiting, queue=True)))
    assert face.run(one.release(grant))
    eventually(lambda: isinstance(ticket.inbox.peek(), Grant), 10.0, "its turn")
    assert granted(ticket.inbox.peek()).since == float("-inf")


def test_a_request_that_comes_after_closing_makes_no_session(face, store, claim, zookeeper_server) -> None:
    """The keeper's last one may; its session and kazoo's threads would stay for as long as the process."""
    grant = granted(face.run(store.acquire(claim(), queue=False)))
    face.run(store.close())
    with pytest.raises(StoreUnavailable, match="closed"):
        face.run(store.abandon(grant.claim, tombstone=True))
    assert store._sessions == {}


def test_many_doubts_are_settled_with_a_few_requests_each(face, store, claim) -> None:
    """After a broken connection: each node that was found began the search for all of them anew, cubed in the end."""
    first = granted(face.run(store.acquire(claim(), queue=False)))
    tickets = [queued(face.run(store.acquire(claim(), queue=True))) for _ in range(20)]
    session = store._session(30.0)
    for ticket in tickets:
        store.leave(ticket)
        session.doubt(ticket.claim.owner, ticket.state.parent)
    post, posted = session.post, []

    def count(request, then=None) -> None:
        posted.append(request)
        post(request, then)

    session.post = count
    session.sweep()
    eventually(lambda: not session._doubts, 20.0, "the doubts are settled")
    assert len(posted) <= 5 * len(tickets)
    assert [view.owner for view in face.run(store.inspect("n")).holders] == [first.claim.owner]
    assert face.run(store.inspect("n")).waiters == []


def test_a_line_that_may_not_be_read_is_refused_and_nothing_is_left(face, store, claim, looker, namespace) -> None:
    """A node was made anew for ever, because one's own was not in the line."""
    assert face.run(store.release(granted(face.run(store.acquire(claim(), queue=False)))))
    path = f"/{namespace}/lock/n"
    looker.set_acls(path, [make_acl("world", "anyone", create=True, delete=True, admin=True)])
    with pytest.raises(StoreAuthError, match="read"):
        face.run(store.acquire(claim(), queue=False))
    looker.set_acls(path, [make_acl("world", "anyone", all=True)])
    assert looker.get_children(path) == []


def test_a_watch_that_fires_before_it_is_noted_is_not_noted(face, store, monkeypatch) -> None:
    """Otherwise `changed` trusted in a watch that was over, and only looked every few seconds."""
    face.run(store.put("c", b"1"))
    answers = store._answers

    async def late(session, *requests, **settings):
        answer = await answers(session, *requests, **settings)
        for request in requests:
            if getattr(request, "watcher", None):
                request.watcher(None)  # on kazoo's thread, which was faster than ours
        return answer

    monkeypatch.setattr(store, "_answers", late)
    face.run(store._watch(store._cell("c")))
    assert store._armed == set()


def test_deleting_that_is_forbidden_is_not_tried_again_and_again(face, store, claim, looker, namespace) -> None:
    """Listing and deleting followed each other without a pause, for as long as the node was there."""
    grant = granted(face.run(store.acquire(claim(), queue=False)))
    path = f"/{namespace}/lock/n"
    looker.set_acls(path, [make_acl("world", "anyone", read=True, create=True, admin=True)])
    session = store._session(30.0)
    session.doubt(grant.claim.owner, path)
    post, posted = session.post, []

    def count(request, then=None) -> None:
        posted.append(type(request).__name__)
        post(request, then)

    session.post = count
    session.sweep()
    eventually(lambda: "Delete" in posted, 10.0, "deleting was tried")
    for _ in range(3):
        face.run(store.inspect("n"))
        (word,) = face.run(store.beat([grant], [], within=5.0))  # answered after what was posted before
        assert isinstance(word, Held)
    assert posted == ["GetChildren", "Delete"]
    looker.set_acls(path, [make_acl("world", "anyone", all=True)])
    session.sweep()  # as a new connection does
    eventually(lambda: session.idle, 10.0, "the doubt is settled")
    assert looker.get_children(path) == []


def test_sessions_that_nothing_lives_by_are_ended(face, store, claim, zookeeper_server, monkeypatch) -> None:
    """Every ttl that was ever used kept a connection and two threads for as long as the client."""

    def sessions() -> set[str]:
        return set(re.findall(r"sid=(0x[0-9a-f]+)", zookeeper_server.command("cons")))

    monkeypatch.setattr("locksmith_zookeeper.base.UNUSED", -60.0)
    before = sessions()
    held = granted(face.run(store.acquire(claim("held", ttl=20.5), queue=False)))
    for at in range(5):
        assert face.run(store.release(granted(face.run(store.acquire(claim(ttl=30.0 + at / 8), queue=False)))))
    assert set(store._sessions) == {20.5, 30.5}
    # Not by their number: those of the tests before this one may be ending still.
    eventually(lambda: len(sessions() - before) == 2, 10.0, "the others are ended")
    (word,) = face.run(store.beat([held], [], within=5.0))
    assert isinstance(word, Held)


def test_a_session_that_was_used_lately_is_kept(face, store, claim) -> None:
    """Another thread may be about to ask in it."""
    for ttl in (30.0, 31.0):
        assert face.run(store.release(granted(face.run(store.acquire(claim(ttl=ttl), queue=False)))))
    assert set(store._sessions) == {30.0, 31.0}


def test_many_sessions_are_closed_at_once(face, claim, namespace, zookeeper_server) -> None:
    """A server that is silent cost two seconds for each of them."""
    with Proxy(zookeeper_server.address) as proxy:
        store = face.store(proxy.through(zookeeper_server.url), namespace)
        for at in range(8):
            assert granted(face.run(store.acquire(claim(f"n{at}", ttl=30.0 + at), queue=False)))
        proxy.black_hole()
        began = time.monotonic()
        face.run(store.close())
        assert time.monotonic() - began < 10.0


def test_closing_while_somebody_asks_says_that_it_was_closed(blocking, claim) -> None:
    """It said that the server had answered what kazoo does not understand: None."""
    store = blocking.store("zookeeper://127.0.0.1:1?timeout=30", "t")
    told: list[BaseException] = []

    def ask() -> None:
        try:
            blocking.run(store.acquire(claim(), queue=False))
        except StoreUnavailable as error:
            told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: store._sessions and store._session(30.0)._arrivals, 10.0, "it waits for a connection")
    blocking.run(store.close())
    thread.join(20.0)
    assert "was closed while" in str(told[0])
