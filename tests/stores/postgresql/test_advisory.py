"""`?mode=advisory`: whose session ends has lost, and is told; nothing is believed in longer, and nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import psycopg
import pytest

import locksmith
from locksmith.errors import (
    ClientClosed,
    ConfigurationError,
    GuaranteeMissing,
    InvalidTTL,
    StoreAuthError,
    StoreProtocolError,
    StoreUnavailable,
)
from locksmith.store import Grant, Held, Lost, Ticket
from locksmith.testing.servers import PgBouncer, PostgreSQLServer
from locksmith_sql.postgresql.advisory import sessions
from locksmith_sql.postgresql.advisory.store import AdvisoryStore

pytestmark = [pytest.mark.postgresql, pytest.mark.native_threads]  # not promised under gevent

MODE = {"mode": "advisory"}
PATIENCE = 20.0
LOCKS = "FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND pid IN (SELECT pid FROM {}_advisory)"


@pytest.fixture
def url(postgresql_server: PostgreSQLServer) -> str:
    return postgresql_server.url_for(options=MODE)


@pytest.fixture
def make(face: Any, url: str, namespace: str) -> Callable[..., AdvisoryStore]:
    """Stores of this namespace, each a client of its own."""

    def made(at: str = url) -> AdvisoryStore:
        store = face.store(at, namespace)
        assert isinstance(store, AdvisoryStore)
        return store

    return made


def eventually(ask: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + PATIENCE
    while not (answer := ask()):
        assert time.monotonic() < until, what
        time.sleep(0.01)
    return answer


def turn(face: Any, store: AdvisoryStore, ticket: Ticket) -> Grant:
    """The grant that a ticket gets, told without another request of ours."""
    until = time.monotonic() + PATIENCE
    while ticket.inbox.peek() is None:
        assert time.monotonic() < until, "the turn did not come"
        face.run(store.wait(ticket, until - time.monotonic()))
    grant = ticket.inbox.peek()
    assert isinstance(grant, Grant), grant
    return grant


def sessions_of(server: PostgreSQLServer, namespace: str) -> int:
    return int(server.sql(f"SELECT count(DISTINCT pid) {LOCKS.format(namespace)}"))


# Holding.


def test_one_connection_has_many_locks(
    face: Any, make: Any, claim: Any, postgresql_server: PostgreSQLServer, namespace: str
) -> None:
    store = make()
    grants = [face.run(store.acquire(claim(f"n{number}"), queue=False)) for number in range(50)]
    assert sessions_of(postgresql_server, namespace) == 1
    assert all(isinstance(word, Held) for word in face.run(store.beat(grants, [], within=5)))
    assert all(face.run(store.release(grant)) for grant in grants)


def test_a_silent_holder_ends_with_its_ttl(face: Any, make: Any, claim: Any) -> None:
    """A stopped process says nothing: its session is ended by the server, and whoever waits has the name then."""
    stopped, other = make(), make()
    silent = face.run(stopped.acquire(claim(ttl=1.5), queue=False))
    ticket = face.run(other.acquire(claim(), queue=True))
    grant = turn(face, other, ticket)
    now = other.runtime.clock.now()
    assert silent.since + 1.5 * 0.99 <= now < silent.since + 1.5 + PATIENCE / 2
    assert grant.token > silent.token
    assert isinstance(face.run(stopped.beat([silent], [], within=5))[0], Lost)
    assert face.run(stopped.release(silent)) is False
    assert isinstance(face.run(other.beat([grant], [], within=5))[0], Held)


def test_a_turn_that_nobody_heard_of_ends_with_the_ttl(face: Any, make: Any, claim: Any) -> None:
    """A waiter that is stopped when its turn comes does not have it for ever, and does not believe in it later."""
    holder, stopped, other = make(), make(), make()
    held = face.run(holder.acquire(claim(), queue=False))
    asleep = face.run(stopped.acquire(claim(ttl=1.5, waiter_ttl=1.5), queue=True))
    face.run(holder.release(held))
    assert face.run(other.acquire(claim(), queue=False)) is None
    grant = turn(face, other, face.run(other.acquire(claim(), queue=True)))
    session = stopped._holds[asleep.claim.owner].session
    eventually(lambda: session.gone, "the session ended")
    face.run(stopped.wait(asleep, 0.3))
    assert asleep.inbox.peek() is None, "an old turn was believed in"
    assert face.run(other.release(grant))
    assert turn(face, stopped, asleep).token > grant.token


def test_a_broken_connection_is_told_at_once(url: str, namespace: str, postgresql_server: PostgreSQLServer) -> None:
    """All that lived in it is lost, long before a renewal is due; what lives elsewhere is not."""
    with locksmith.connect(url, namespace=namespace, ttl=3600) as client:
        elsewhere = client.lock("elsewhere", ttl=1800).acquire()
        pid = postgresql_server.sql(f"SELECT pid FROM {namespace}_advisory")
        leases = [client.lock(name).acquire() for name in ("a", "b")]
        told: list[str] = []
        for lease in leases:
            lease.on_lost(lambda lost: told.append(lost.name))
        postgresql_server.sql(f"SELECT pg_terminate_backend(pid) FROM {namespace}_advisory WHERE pid <> {pid}")
        for lease in leases:
            assert lease.lost.wait(PATIENCE)
        assert not any(lease.held for lease in leases)
        eventually(lambda: sorted(told) == ["a", "b"], "on_lost")
        assert elsewhere.held
        elsewhere.release()


def test_a_late_answer_costs_no_other_lease_and_leaves_nothing(
    face: Any, make: Any, claim: Any, url: str, namespace: str, postgresql_server: PostgreSQLServer
) -> None:
    """The answer is heard when it comes; what it granted after all is given back."""
    store, other = make(f"{url}&timeout=1"), make()
    held = face.run(store.acquire(claim("held"), queue=False))
    with psycopg.connect(postgresql_server.url) as blocker:
        blocker.execute(f"LOCK TABLE {namespace}_advisory")
        late = claim("late")
        with pytest.raises(StoreUnavailable):
            face.run(store.acquire(late, queue=False))
        with pytest.raises(StoreUnavailable):
            face.run(store.abandon(late, tombstone=True))
        blocker.rollback()
    face.run(store.abandon(late, tombstone=True))
    assert isinstance(face.run(store.beat([held], [], within=5))[0], Held)
    assert face.run(store.acquire(late, queue=False)) is None
    grant = face.run(other.acquire(claim("late"), queue=False))
    assert isinstance(grant, Grant)
    assert face.run(other.release(grant))
    assert face.run(store.release(held)) is True


def test_two_of_one_client_do_not_enter_one_lock_twice(face: Any, make: Any, claim: Any) -> None:
    """For the server they are one session, whose locks are re-entrant."""
    store = make()
    first = face.run(store.acquire(claim(), queue=False))
    assert face.run(store.acquire(claim(), queue=False)) is None
    ticket = face.run(store.acquire(claim(), queue=True))
    face.run(store.wait(ticket, 0.1))
    assert ticket.inbox.peek() is None
    assert face.run(store.release(first))
    assert turn(face, store, ticket).token > first.token


def test_what_was_over_when_its_turn_came_gives_nothing_back(face: Any, make: Any, claim: Any) -> None:
    """A second release must not take the lock from the next one in the same session."""
    store = make()
    first = face.run(store.acquire(claim(), queue=False))
    hold = store._holds[first.claim.owner]
    assert face.run(store.release(first)) is True
    second = face.run(store.acquire(claim(), queue=False))
    assert face.run(store._give(hold, time.monotonic() + 5)) is False
    assert face.run(make().acquire(claim(), queue=False)) is None
    assert face.run(store.release(second)) is True


def test_nothing_lingers(face: Any, make: Any, claim: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A name cannot stay closed after its holder: it is free at once, and that is said."""
    store = make()
    grant = face.run(store.acquire(claim(), queue=False))
    lingering = grant._replace(claim=grant.claim._replace(ttl=5.0))
    assert isinstance(face.run(store.beat([lingering], [], within=5))[0], Held)
    assert "free at once" in caplog.text
    assert isinstance(face.run(make().acquire(claim(), queue=False)), Grant)


# Waiting.


def test_who_waits_is_told(face: Any, make: Any, claim: Any) -> None:
    holder, waiter = make(), make()
    for _ in range(3):  # the first one tries before it waits, the others know better
        held = face.run(holder.acquire(claim(), queue=False))
        ticket = face.run(waiter.acquire(claim(), queue=True))
        assert isinstance(ticket, Ticket)
        assert len(face.run(holder.inspect("n")).waiters) == 1
        assert face.run(holder.release(held))
        grant = turn(face, waiter, ticket)
        assert grant.token > held.token
        assert face.run(waiter.release(grant))


def test_who_leaves_is_in_no_line(face: Any, make: Any, claim: Any) -> None:
    holder, waiter = make(), make()
    held = face.run(holder.acquire(claim(), queue=False))
    leaving, staying = claim(), claim()
    first = face.run(waiter.acquire(leaving, queue=True))
    second = face.run(waiter.acquire(staying, queue=True))
    waiter.leave(first)
    face.run(waiter.abandon(leaving, tombstone=False))
    eventually(lambda: not face.run(holder.inspect("n")).waiters, "somebody is in line")
    face.run(waiter.wait(second, 0.1))
    assert len(face.run(holder.inspect("n")).waiters) == 1
    face.run(holder.release(held))
    turn(face, waiter, second)


def test_a_waiter_outlives_a_restart_of_the_server(
    face: Any, claim: Any, namespace: str, start_postgresql: Callable[..., PostgreSQLServer]
) -> None:
    """Its place is gone, and it stands in line again; the holder has lost."""
    server = start_postgresql()
    holder, waiter = (face.store(server.url_for(options=MODE), namespace) for _ in range(2))
    held = face.run(holder.acquire(claim(), queue=False))
    ticket = face.run(waiter.acquire(claim(), queue=True))
    server.restart()
    assert isinstance(face.run(holder.beat([held], [], within=5))[0], Lost)
    assert turn(face, waiter, ticket).token > held.token


def test_no_way_into_the_queue_is_said_in_the_end(
    face: Any, claim: Any, namespace: str, start_postgresql: Callable[..., PostgreSQLServer]
) -> None:
    server = start_postgresql()
    holder, waiter = (face.store(server.url_for(options=MODE), namespace) for _ in range(2))
    face.run(holder.acquire(claim(), queue=False))
    ticket = face.run(waiter.acquire(claim(waiter_ttl=0.5), queue=True))
    server.stop()
    with pytest.raises(StoreUnavailable):
        face.run(waiter.wait(ticket, PATIENCE))


# Tokens.


def test_tokens_go_on_where_the_sequence_was_taken_back(
    face: Any, make: Any, claim: Any, namespace: str, postgresql_server: PostgreSQLServer
) -> None:
    """As by a failover or a restored backup, which end all sessions."""
    before = face.run(make().acquire(claim(), queue=False))
    postgresql_server.sql(f"SELECT setval('{namespace}_tokens', 1)")
    assert face.run(make().acquire(claim("other"), queue=False)).token > before.token


def test_rows_that_sessions_left_behind_are_swept(
    face: Any, make: Any, claim: Any, namespace: str, postgresql_server: PostgreSQLServer
) -> None:
    store = make()
    held = face.run(store.acquire(claim("held"), queue=False))
    face.run(make().acquire(claim("left"), queue=False))
    table = f"{namespace}_advisory"
    postgresql_server.sql(
        f"SELECT pg_terminate_backend(pid, 5000) FROM {table} WHERE key = 'left'", f"UPDATE {table} SET since = 0"
    )
    statement = store._statements.sweep
    face.run(store._ask(statement, [b"%d" % -(1 << 63)]))
    assert postgresql_server.sql(f"SELECT key FROM {table}") == "held"
    assert face.run(store.release(held))
    assert postgresql_server.sql(f"SELECT key FROM {table}") == ""


# Refused.


@pytest.fixture(scope="module")
def bouncer(postgresql_server: PostgreSQLServer) -> Iterator[PgBouncer]:
    with PgBouncer(postgresql_server) as made:
        yield made


def test_a_transaction_pooler_is_refused(face: Any, make: Any, claim: Any, bouncer: PgBouncer) -> None:
    store = make(f"{bouncer.url}?mode=advisory")
    for queue in (False, True):
        with pytest.raises(ConfigurationError, match="pooler"):
            face.run(store.acquire(claim(), queue=queue))
    (error,) = [finding for finding in face.run(store.diagnose()) if finding.level == "error"]
    assert "pooler" in error.advice
    with pytest.raises(ConfigurationError, match="pooler"):
        make(f"{bouncer.url}?mode=advisory&pooler=transaction")


def test_a_pooler_of_sessions_is_not(face: Any, make: Any, claim: Any, postgresql_server: PostgreSQLServer) -> None:
    with PgBouncer(postgresql_server, pool_mode="session") as bouncer:
        store = make(f"{bouncer.url}?mode=advisory&pooler=none")
        grant = face.run(store.acquire(claim(), queue=True))
        assert isinstance(grant, Grant)
        assert face.run(store.release(grant)) is True
        face.run(store.close())


def test_the_doctor_finds_nothing_wrong(face: Any, make: Any) -> None:
    assert {finding.level for finding in face.run(make().diagnose())} == {"ok"}


def test_a_server_that_cannot_end_silent_sessions(
    face: Any, make: Any, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "OLDEST", 9_000_000)
    with pytest.raises(StoreProtocolError, match="14"):
        face.run(make().acquire(claim(), queue=False))


def test_missing_rights(face: Any, make: Any, claim: Any, namespace: str, postgresql_server: PostgreSQLServer) -> None:
    """Each is said; a lock that was got before the refusal is given back."""
    role = f"mortal_{namespace}"
    postgresql_server.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
    mortal = make(postgresql_server.url_for(username=role, password="p", options=MODE))
    with pytest.raises(StoreAuthError, match="locksmith init"):
        face.run(mortal.acquire(claim(), queue=False))
    owner = make()
    face.run(owner.create())
    face.run(owner.create())  # safe to repeat
    postgresql_server.sql(
        f"GRANT SELECT, INSERT, DELETE ON {namespace}_advisory TO {role}",
        f"GRANT SELECT, UPDATE ON {namespace}_tokens TO {role}",
        f"REVOKE DELETE ON {namespace}_advisory FROM {role}",
    )
    grant = face.run(mortal.acquire(claim(), queue=False))
    assert face.run(mortal.release(grant)) is True, "given back, though its row stays"
    postgresql_server.sql(f"REVOKE INSERT ON {namespace}_advisory FROM {role}")
    for queue in (False, True, True):
        with pytest.raises(StoreAuthError, match="permission denied"):
            face.run(mortal.acquire(claim(), queue=queue))
    mine = face.run(owner.acquire(claim(), queue=False))
    assert isinstance(mine, Grant)
    with pytest.raises(StoreAuthError):
        face.run(mortal.acquire(claim(), queue=True))
    assert face.run(owner.release(mine))
    assert isinstance(face.run(owner.acquire(claim(), queue=False)), Grant)


def test_what_it_has_not_got(face: Any, make: Any, claim: Any, url: str) -> None:
    store = make()
    with pytest.raises(GuaranteeMissing):
        face.run(store.acquire(claim(limit=2), queue=False))
    for refused in (store.get("c"), store.put("c", b""), store.delete("c")):
        with pytest.raises(GuaranteeMissing):
            _run(face, refused)
    with pytest.raises(InvalidTTL):
        face.run(store.acquire(claim(ttl=3_000_000.0), queue=False))
    with pytest.raises(GuaranteeMissing):
        locksmith.connect(url, require="fifo")


def _run(face: Any, work: Coroutine[Any, Any, Any]) -> None:
    face.run(work)


def test_abandoned_while_it_goes_to_stand_in_line(
    face: Any, make: Any, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was still being opened then does not end up in the queue, nor does one of a closed store."""
    holder, waiter = make(), make()
    held = face.run(holder.acquire(claim(), queue=False))
    opened, leaving = waiter._sessions._open, claim()

    async def abandoned(ttl: float, until: float) -> Any:
        session = await opened(ttl, until)
        if waiter._lines:
            await waiter.abandon(leaving, tombstone=True)
        return session

    monkeypatch.setattr(waiter._sessions, "_open", abandoned)
    assert face.run(waiter.acquire(leaving, queue=True)) is None
    assert not face.run(holder.inspect("n")).waiters
    assert face.run(holder.release(held))
    assert isinstance(face.run(holder.acquire(claim(), queue=False)), Grant)


def test_a_store_that_is_closed_while_it_opens_a_session(
    face: Any, make: Any, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    opened = store._sessions.link.open

    def closing(until: float) -> Any:
        store._sessions._closed = True
        return opened(until)

    monkeypatch.setattr(store._sessions.link, "open", closing)
    with pytest.raises(ClientClosed):
        face.run(store.acquire(claim(), queue=True))
    assert not store._sessions._all
