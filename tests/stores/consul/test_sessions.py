"""What claims live by: how long, renewed by whom, and what is left behind."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import consul
import pytest

import locksmith
from locksmith.errors import InvalidTTL, SettingsConflict
from locksmith.store import ABSENT, Claim, Gone, Grant, Held, Lost, Ticket, Unknown
from locksmith.testing import eventually
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import ConsulServer
from locksmith_consul.base import Outcome

pytestmark = pytest.mark.consul

Make = Callable[..., Claim]
Start = Callable[..., ConsulServer]


def sessions(server: ConsulServer) -> set[str]:
    return {one["ID"] for one in server.ask("GET", "/v1/session/list")}


def keys(server: ConsulServer, prefix: str) -> list[str]:
    return server.ask("GET", f"/v1/kv/{prefix}?keys") or []


def test_a_ttl_below_the_servers_least_is_rounded_up_and_lease_ttl_says_so(face: Any, started: Start, claim: Make):
    """Section 9: the store may round up, and tells the truth. The server was asked in vain only once."""
    store = face.store(started().url)
    for name in ("a", "b"):
        grant = face.run(store.acquire(claim(name, ttl=0.5), queue=False))
        assert isinstance(grant, Grant)
        assert grant.ttl == 10.0
    assert face.run(store.acquire(claim("c", ttl=25.0), queue=False)).ttl == 25.0
    assert len(store._classes) == 2


def test_strict_ttl(started: Start, namespace: str):
    with locksmith.connect(started().url, namespace=namespace) as client:
        with pytest.raises(InvalidTTL):
            client.lock("n", ttl=1.0, strict_ttl=True).try_acquire()
        with client.lock("n", ttl=1.0).acquire(wait=0) as lease:
            assert lease.ttl == 10.0


def test_a_ttl_above_the_servers_most_is_refused(face: Any, started: Start, claim: Make):
    store = face.store(started().url)
    with pytest.raises(InvalidTTL, match="86400"):
        face.run(store.acquire(claim(ttl=100_000.0), queue=False))
    assert face.run(store.acquire(claim(ttl=86_400.0), queue=False)).ttl == 86_400.0


def test_one_session_for_each_ttl_and_none_left_behind(face: Any, started: Start, claim: Make, namespace: str):
    """Section 9: neither node, key nor session."""
    server = started()
    before = sessions(server)
    store = face.store(server.url, namespace)
    for number in range(20):
        assert face.run(store.acquire(claim(f"n{number}", ttl=20.0 + number % 2), queue=False))
    mine = sessions(server) - before
    assert len(mine) == 2
    for session in mine:
        told = server.ask("GET", f"/v1/session/info/{session}")[0]
        # No health check, not even serfHealth, can end it; and it keeps no name closed when it ends.
        assert (told["NodeChecks"], told["ServiceChecks"], told["LockDelay"]) == ([], None, 0)
        assert told["Behavior"] == "delete"
    assert len(keys(server, f"{namespace}/")) == 20
    face.run(store.close())
    assert sessions(server) == before
    assert keys(server, f"{namespace}/") == []


def test_many_at_once_make_one_session(started: Start, namespace: str):
    server = started()
    before = sessions(server)
    with locksmith.connect(server.url, namespace=namespace) as client:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            leases = list(pool.map(lambda number: client.lock(f"n{number}").acquire(wait=0), range(8)))
        assert len(sessions(server) - before) == 1
        for lease in leases:
            assert lease.release()


def test_ever_new_ttls_leave_nothing_behind(face: Any, consul_server: ConsulServer, claim: Make, namespace: str):
    """A client that lives long must not remember a session for each ttl that it was ever asked for."""
    store = face.store(consul_server.url, namespace)
    for number in range(5):
        grant = face.run(store.acquire(claim(f"n{number}", ttl=20.0 + number), queue=False))
        assert face.run(store.release(grant))
    for session in store._known.values():
        session.since -= 1000.0
    kept = face.run(store.acquire(claim("kept", ttl=40.0), queue=False))
    assert set(store._known) == {kept.state.session}
    assert [session.id for session in store._classes.values()] == [kept.state.session]
    assert face.run(store.acquire(claim("n0", ttl=20.0), queue=False))


def test_closing_does_not_wait_for_a_silent_agent_session_by_session(
    face: Any, consul_server: ConsulServer, proxy: Proxy, claim: Make, namespace: str
):
    store = face.store(f"{proxy.through(consul_server.url)}/?timeout=0.5", namespace)
    for number in range(40):
        assert face.run(store.acquire(claim(f"n{number}", ttl=20.0 + number), queue=False))
    proxy.black_hole()
    began = time.monotonic()
    face.run(store.close())
    assert time.monotonic() - began < 10


def test_an_interrupt_while_a_session_is_made(consul_server: ConsulServer, claim: Make, namespace: str):
    """Whoever needs a session of this ttl next makes one, and does not wait for the one that nobody makes any more."""

    class Interrupted(dict[int, Any]):
        interrupts = 1

        def setdefault(self, key: int, value: Any = None) -> Any:
            found = super().setdefault(key, value)
            if self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt
            return found

    with locksmith.connect(f"{consul_server.url}/?timeout=1", namespace=namespace) as client:
        client._engine.store._opening = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            client.lock("n", ttl=30.0).acquire(wait=0)
        assert client._engine.store._opening == {}
        with client.lock("n", ttl=30.0).acquire(wait=0) as lease:
            assert lease.held


def test_another_limit_that_is_about_to_be_refused_does_not_hurt_others(
    face: Any, consul_server: ConsulServer, claim: Make, namespace: str
):
    """It stands in line for as long as its refusal takes; who has the right limit was refused as well."""
    store, wrong = face.store(consul_server.url, namespace), face.store(consul_server.url, namespace)
    grant = face.run(store.acquire(claim(), queue=False))

    async def too_late(*_: Any) -> bool:
        """Its process was stopped."""
        return True

    wrong._erase = too_late
    stranger = claim(limit=2)
    with pytest.raises(SettingsConflict):
        face.run(wrong.acquire(stranger, queue=True))
    assert face.run(store.acquire(claim(), queue=False)) is None
    ticket = face.run(store.acquire(claim(), queue=True))
    assert isinstance(ticket, Ticket)
    face.run(store.abandon(ticket.claim, tombstone=False))
    face.run(wrong.abandon(stranger, tombstone=False))
    assert face.run(store.release(grant))


def test_a_look_that_failed_is_no_lost_place(face: Any, consul_server: ConsulServer, claim: Make, namespace: str):
    """P9: a transaction that came to nothing says nothing about those who wait."""
    store = face.store(consul_server.url, namespace)
    assert face.run(store.acquire(claim(), queue=False))
    ticket = face.run(store.acquire(claim(), queue=True))

    async def rolled_back(*_: Any, **__: Any) -> Outcome:
        return Outcome(None, {0: "no idea"}, 0.0, again=False)

    store._transact = rolled_back
    assert [type(word) for word in face.run(store.beat([], [ticket], within=5.0))] == [Unknown]


def test_refused_tries_and_timeouts_leave_no_key(face: Any, consul_server: ConsulServer, claim: Make, namespace: str):
    store = face.store(consul_server.url, namespace)
    held = face.run(store.acquire(claim(), queue=False))
    for _ in range(3):
        assert face.run(store.acquire(claim(), queue=False)) is None
    assert keys(consul_server, f"{namespace}/") == [f"{namespace}/lock/n/{held.claim.owner}"]
    assert face.run(store.release(held))
    assert keys(consul_server, f"{namespace}/") == []


def test_a_tombstone_outlives_its_client_and_ends_by_itself(face: Any, consul_server: ConsulServer, claim: Make):
    """A stalled request may arrive after its client has left; its session, which nobody renews, takes the tombstone."""
    store, late = face.store(consul_server.url), claim()
    face.run(store.abandon(late, tombstone=True))
    face.run(store.close())
    assert face.run(face.store(consul_server.url).acquire(late, queue=True)) is None
    (place,) = [key for key in keys(consul_server, "t/dead/") if late.owner in key]
    session = consul_server.ask("GET", f"/v1/kv/{place}")[0]["Session"]
    assert consul_server.ask("GET", f"/v1/session/info/{session}")[0]["TTL"] == "120000ms"


def test_a_session_that_an_operator_ended(face: Any, consul_server: ConsulServer, claim: Make):
    """Everything under it is lost at once, waiters are told, and a fresh session serves new claims."""
    store, other = face.store(consul_server.url), face.store(consul_server.url)
    mine = face.run(store.acquire(claim("a"), queue=False))
    theirs = face.run(other.acquire(claim("b"), queue=False))
    ticket = face.run(store.acquire(claim("b"), queue=True))
    assert isinstance(ticket, Ticket)
    consul_server.ask("PUT", f"/v1/session/destroy/{mine.state.session}")
    words = face.run(store.beat([mine], [ticket], within=5.0))
    assert [type(word) for word in words] == [Lost, Gone]
    again = face.run(store.acquire(claim("a"), queue=False))
    assert isinstance(again, Grant)
    assert again.token > mine.token
    assert again.state.session != mine.state.session
    assert [type(word) for word in face.run(other.beat([theirs], [], within=5.0))] == [Held]


def test_acquiring_renews_a_session_that_has_grown_old(face: Any, consul_server: ConsulServer, claim: Make):
    """A grant counts from the last answered word about its session, which must leave it most of its ttl."""
    store = face.store(consul_server.url)
    first = face.run(store.acquire(claim("a", ttl=1.0), queue=False))
    time.sleep(0.3)
    second = face.run(store.acquire(claim("b", ttl=1.0), queue=False))
    assert second.state.session == first.state.session
    assert second.since >= first.since + 0.25


def test_a_grant_that_is_let_go_ends_although_its_client_lives(face: Any, consul_server: ConsulServer, claim: Make):
    """`linger`: the others of its ttl go on being renewed, this one does not."""
    store = face.store(consul_server.url)
    stays = face.run(store.acquire(claim("stays", ttl=20.0), queue=False))
    goes = face.run(store.acquire(claim("goes", ttl=20.0), queue=False))
    let_go = goes._replace(claim=goes.claim._replace(ttl=0.5))
    (word,) = face.run(store.beat([let_go], [], within=5.0))
    assert isinstance(word, Held)
    assert word.ttl == 0.5
    assert face.run(store.acquire(claim("goes"), queue=False)) is None
    deadline = time.monotonic() + 10
    while face.run(store.inspect("goes")).holders:
        assert time.monotonic() < deadline
        assert isinstance(face.run(store.beat([stays], [], within=5.0))[0], Held)
        time.sleep(0.05)


def test_another_client_can_renew_what_it_did_not_acquire(face: Any, consul_server: ConsulServer, claim: Make):
    """As `heartbeat="process"` does: it knows owner and token, and finds the session in the key."""
    store, heart = face.store(consul_server.url), face.store(consul_server.url)
    grant = face.run(store.acquire(claim(ttl=1.0), queue=False))
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        (word,) = face.run(heart.beat([grant._replace(state=None)], [], within=5.0))
        assert isinstance(word, Held)
        time.sleep(0.1)
    assert face.run(store.release(grant)) is True
    assert isinstance(face.run(heart.beat([grant._replace(state=None)], [], within=5.0))[0], Lost)


def test_the_session_of_a_cell_goes_with_it(face: Any, started: Start, namespace: str):
    """A cell that is written again and again does not leave a session behind each time."""
    server = started()
    before = sessions(server)
    store = face.store(server.url, namespace)
    for _ in range(3):
        face.run(store.put("c", b"x", ttl=3600.0))
    assert len(sessions(server) - before) == 1
    with pytest.raises(locksmith.CellConflict):
        face.run(store.put("c", b"x", ttl=3600.0, expect=ABSENT))
    assert len(sessions(server) - before) == 1
    face.run(store.put("c", b"stays"))
    assert sessions(server) == before
    face.run(store.put("c", b"x", ttl=3600.0))
    assert face.run(store.delete("c")) is True
    assert sessions(server) == before


def test_a_client_of_py_consul_is_used_and_stays_open(face: Any, consul_server: ConsulServer, claim: Make):
    theirs = consul.Consul(*consul_server.address)
    store = face.store(theirs)
    grant = face.run(store.acquire(claim(), queue=False))
    assert isinstance(grant, Grant)
    face.run(store.close())
    assert theirs.status.leader()
    with locksmith.connect(theirs) as client, client.lock("n").acquire(wait=5):
        pass


def test_a_heart_renews_while_this_process_cannot(consul_server: ConsulServer, namespace: str):
    """`heartbeat="process"`: a C call that holds the GIL for longer than the session may be silent."""
    with (
        locksmith.connect(consul_server.url, namespace=namespace, ttl=1.5, heartbeat="process") as client,
        locksmith.connect(consul_server.url, namespace=namespace) as other,
    ):
        lease = client.lock("n").acquire()
        eventually(lambda: lease._hold.pulse is not None and (lease._hold.pulse() or 0) > 0, within=30)
        ctypes.PyDLL(None).sleep(4)
        assert lease.held
        assert other.lock("n").try_acquire() is None
        assert lease.release()


def test_an_earlier_ticket_that_joins_later_is_told(
    face: Any, claim: Make, consul_server: ConsulServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads asked, and the reply of the second was faster: what was watched was the claim of the first one."""
    store, other = face.store(consul_server.url, namespace), face.store(consul_server.url, namespace)
    held = face.run(other.acquire(claim(), queue=False))
    late: list[Any] = []
    with monkeypatch.context() as slow:
        slow.setattr(store._hub, "join", lambda *joining: late.append(joining))
        first = face.run(store.acquire(claim(), queue=True))
    second = face.run(store.acquire(claim(), queue=True))
    assert isinstance(first, Ticket)
    assert isinstance(second, Ticket)
    face.run(store.wait(second, 1.0))  # the watch is under way

    async def join() -> None:
        store._hub.join(*late[0])

    face.run(join())
    assert face.run(other.release(held)) is True
    face.run(store.wait(first, 20.0))
    assert isinstance(first.inbox.peek(), Grant)
    store.leave(first)
    assert face.run(store.release(first.inbox.peek())) is True
    face.run(store.wait(second, 20.0))
    assert isinstance(second.inbox.peek(), Grant)
