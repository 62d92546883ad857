"""How a name changes hands: what a release sees, what a push says, and what happens where it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from locksmith import connect
from locksmith.store import Gone, Grant, Held, Lost, Ticket, Waiting
from locksmith.testing.servers import PostgreSQLServer
from locksmith.testing.waiting import eventually

pytestmark = pytest.mark.postgresql

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{}%'"


class Beside(threading.Thread):
    """Something that runs beside the test, and what came of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: Any = None
        self.start()

    def run(self) -> None:
        self.result = self._work()

    def get(self) -> Any:
        self.join(20)
        assert not self.is_alive()
        return self.result


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_release_that_waited_for_its_row_sees_who_queued_meanwhile(
    blocking: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Any, level: str
) -> None:
    """P11: in one statement the release would know the line as it was before it waited, and leave everybody waiting."""
    database = f"d_{namespace}"
    postgresql_server.sql(f"CREATE DATABASE {database}")
    postgresql_server.sql(f"ALTER DATABASE {database} SET default_transaction_isolation = '{level}'")
    url = postgresql_server.url_for(database=database)
    store = blocking.store(url, namespace)
    mine, theirs = claim(), claim()
    held = blocking.run(store.acquire(mine, queue=False))
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        # An enqueue that is not committed yet has the row; the release waits for it.
        statement = store._statements.acquire.text.decode()
        second, waiter_ttl = 1_000_000, 60_000_000
        values = ("n", None, theirs.owner, 30 * second, 1, 1, waiter_ttl, 0, b"{}", "channel")
        connection.execute(statement[: statement.index("(")] + "(" + ", ".join(["%s"] * 10) + ")", values)
        releasing = Beside(lambda: blocking.run(store.release(held)))
        eventually(lambda: postgresql_server.sql(BLOCKED.format("_release_")) == "1")
        connection.commit()
    assert releasing.get() is True
    found = blocking.run(store.inspect("n"))
    assert [holder.owner for holder in found.holders] == [theirs.owner]
    assert not found.waiters


def test_a_push_for_another_ticket_is_ignored(face: Any, store: Any, claim: Any) -> None:
    """Section 8: each enqueue has a number, and a push carries it."""
    held = face.run(store.acquire(claim(), queue=False))
    waiting = claim()
    ticket = face.run(store.acquire(waiting, queue=True))
    for payload in (f"{waiting.owner} {ticket.number + 1} 17", "nonsense", f"{waiting.owner} x y", "\x00 1 1", ""):
        store._hub.waiters.hear(payload.encode())
    assert ticket.inbox.peek() is None
    assert face.run(store.release(held))
    face.run(store.wait(ticket, 20))
    assert isinstance(ticket.inbox.peek(), Grant)


def test_a_lost_push_is_found_by_the_beat(
    face: Any, store: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    held = face.run(store.acquire(claim(), queue=False))
    ticket = face.run(store.acquire(claim(), queue=True))
    postgresql_server.sql(f"UPDATE {namespace}_line SET client = 'somebody else'")
    assert face.run(store.release(held))
    (word,) = face.run(store.beat([], [ticket], within=5))
    assert isinstance(word, Grant)
    assert not word.confirmed


def test_waiting_costs_one_connection_and_no_statements(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    """O(1) connections per client however many wait."""
    statements = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waits'"
    url = postgresql_server.url_for(options={"application_name": "waits"})
    with connect(postgresql_server.url, namespace=namespace) as rival, connect(url, namespace=namespace) as client:
        held = rival.lock("n").acquire()
        threads = [Beside(lambda: client.lock("n").acquire(wait=60).release()) for _ in range(30)]
        eventually(lambda: len(rival.inspect("n").waiters) == 30)
        assert int(postgresql_server.sql(statements)) <= 5
        held.release()
        for thread in threads:
            assert thread.get() is True


def test_a_name_that_is_the_word_null(face: Any, store: Any, claim: Any) -> None:
    """Arrays of keys are written with quotes."""
    grants = [face.run(store.acquire(claim(name), queue=False)) for name in ("null", "NULL", "n")]
    words = face.run(store.beat(grants, [], within=5))
    assert [type(word) for word in words] == [Held] * 3


def test_a_beat_of_everything_at_once(face: Any, store: Any, claim: Any) -> None:
    """Grants and tickets of one name, alone and shared, live and stale, in the order in which they were given."""
    held = face.run(store.acquire(claim(), queue=False))
    shared = [face.run(store.acquire(claim("s", limit=2), queue=False)) for _ in range(2)]
    tickets = [face.run(store.acquire(claim(), queue=True)) for _ in range(2)]
    tickets.append(face.run(store.acquire(claim("s", limit=2), queue=True)))
    stale = held._replace(token=held.token - 1)
    unknown = held._replace(claim=claim("never"))
    gone = Ticket(claim(), 99, 0.0, tickets[0].inbox)
    words = face.run(store.beat([stale, held, unknown, *shared], [tickets[1], gone, tickets[0], tickets[2]], within=5))
    assert [type(word) for word in words] == [Lost, Held, Lost, Held, Held, Waiting, Gone, Waiting, Waiting]
    heads = [word.head_expires_in for word in words[5:] if isinstance(word, Waiting)]
    assert heads[0] is None
    assert heads[1] is not None
    assert heads[2] is not None


def test_a_beat_of_many_names(face: Any, store: Any, claim: Any) -> None:
    """More than one transaction's worth."""
    grants = [face.run(store.acquire(claim(f"n{at}"), queue=False)) for at in range(600)]
    assert face.run(store.release(grants[300]))
    words = face.run(store.beat(grants, [], within=20))
    assert [at for at, word in enumerate(words) if not isinstance(word, Held)] == [300]


def test_two_beats_do_not_wait_for_each_other_in_a_circle(
    blocking: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    """Each holds half of the names and waits for the other half: their rows are locked in one order by all."""
    stores = [blocking.store(postgresql_server.url, namespace) for _ in range(2)]
    names = [f"n{at}" for at in range(20)]
    grants = [
        [blocking.run(store.acquire(claim(name, limit=1), queue=False)) for name in names[at::2]]
        for at, store in enumerate(stores)
    ]
    tickets = [
        [blocking.run(store.acquire(claim(name), queue=True)) for name in names[1 - at :: 2]]
        for at, store in enumerate(stores)
    ]

    def beat(at: int) -> int:
        for _ in range(50):
            words = blocking.run(stores[at].beat(grants[at], tickets[at][::-1], within=10))
            assert [type(word) for word in words] == [Held] * 10 + [Waiting] * 10
        return 1

    running = [Beside(lambda at=at: beat(at)) for at in range(2)]  # type: ignore[misc]
    assert [one.get() for one in running] == [1, 1]
    database = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert postgresql_server.sql(database) == "0"


def test_the_sweep_forgets_what_nobody_used_for_a_day(
    face: Any, store: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    kept = face.run(store.acquire(claim("kept"), queue=False))
    left = face.run(store.acquire(claim("left", ttl=0.01), queue=False))
    used = face.run(store.acquire(claim("used"), queue=False))
    face.run(store.release(used))
    face.run(store.put("c", b"x"))
    face.run(store.delete("c"))
    day = 86_400_000_001
    postgresql_server.sql(
        f"UPDATE {namespace}_lease SET seen = seen - {day}, expires = CASE key WHEN 'left' THEN 1 ELSE expires END",
        f"UPDATE {namespace}_cell SET sweep_at = 1",
        f"SELECT {namespace}_sweep_v2()",
    )
    assert postgresql_server.sql(f"SELECT key FROM {namespace}_lease") == "kept"
    assert postgresql_server.sql(f"SELECT count(*) FROM {namespace}_cell") == "0"
    again = face.run(store.acquire(claim("left"), queue=False))
    assert again.token > left.token
    assert face.run(store.release(kept))
