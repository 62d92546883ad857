"""What the statements and procedures must not do, whatever the server makes of them."""

from __future__ import annotations

import threading
import time
from typing import Any, Self

import pymysql
import pytest

from locksmith.errors import StoreError
from locksmith.runtime import drive
from locksmith.store import Grant, Held, Lost, Ticket
from locksmith.testing.servers import MariaDBServer
from locksmith.testing.waiting import eventually
from locksmith_sql.mysql import procedures

pytestmark = pytest.mark.mariadb


def granted(reply: object) -> Grant:
    assert isinstance(reply, Grant), reply
    return reply


def test_taking_over_an_expired_lease_does_not_extend_it_for_its_old_owner(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """SET clauses run from left to right and see each other: the owner must be decided on by the old expiry."""
    store = blocking.store(mariadb_server.url, namespace)
    old = granted(drive(store.acquire(claim(ttl=60.0), queue=False)))
    session.execute(f"UPDATE {namespace}_lease SET expires = expires - 61000000")
    session.execute(f"SELECT * FROM {namespace}_lease")
    (before,) = session.fetchall()
    # The fast statement alone leaves such a row exactly as it is: it takes thought.
    mine = claim(ttl=60.0)
    answer = drive(store._desk.ask(store._desk.sql.take, (mine.key, None, mine.owner, 60, 60, 0, "{}")))
    session.execute(f"SELECT * FROM {namespace}_lease")
    assert session.fetchall() == (before,)
    assert answer.reply.last == 0
    new = granted(drive(store.acquire(mine, queue=False)))
    assert new.token > old.token
    assert drive(store.beat([old], [], within=5)) == [Lost()]
    assert isinstance(drive(store.beat([new], [], within=5))[0], Held)
    assert not drive(store.release(old))
    assert drive(store.release(new))


def test_a_held_name_is_left_as_it_is_by_the_statement_that_takes(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    store = blocking.store(mariadb_server.url, namespace)
    granted(drive(store.acquire(claim(), queue=False)))
    session.execute(f"SELECT * FROM {namespace}_lease")
    (before,) = session.fetchall()
    assert drive(store.acquire(claim(), queue=False)) is None
    session.execute(f"SELECT * FROM {namespace}_lease")
    assert session.fetchall() == (before,)


class LockedRow:
    """The row of a name, locked by somebody else's transaction."""

    def __init__(self, session: Any, namespace: str) -> None:
        self.session, self.namespace = session, namespace

    def __enter__(self) -> Self:
        self.session.execute("BEGIN")
        self.session.execute(f"SELECT * FROM {self.namespace}_lease FOR UPDATE")
        return self

    def __exit__(self, *_: object) -> None:
        self.session.execute("COMMIT")

    def waiting(self, count: int) -> None:
        """Return when so many of our requests wait for it."""
        ends = time.monotonic() + 20
        while self._count() < count:
            assert time.monotonic() < ends
            time.sleep(0.15)  # the table is made anew only where nobody has read it for 0.1 s

    def _count(self) -> int:
        self.session.execute(
            "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE %s",
            (f"%{self.namespace}_lease%",),
        )
        return int(self.session.fetchone()[0])


class Later(threading.Thread):
    """A request on a thread of its own."""

    def __init__(self, work: Any) -> None:
        super().__init__()
        self.work, self.answer = work, None
        self.start()

    def run(self) -> None:
        try:
            self.answer = drive(self.work)
        except StoreError as error:
            self.answer = error

    def result(self) -> Any:
        self.join(30)
        return self.answer


def test_the_clock_is_read_after_the_row_was_waited_for(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """P3, rule 6: a beat that waited until after the end of its lease revives nothing."""
    store = blocking.store(mariadb_server.url, namespace)
    grant = granted(drive(store.acquire(claim(limit=3, ttl=0.5), queue=False)))
    with LockedRow(session, namespace) as row:
        beat = Later(store.beat([grant], [], within=5))
        row.waiting(1)
        time.sleep(0.6)
    assert beat.result() == [Lost()]


def test_a_release_that_waited_sees_the_line(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """Section 6: with the snapshot of before, a release would leave everybody waiting."""
    store = blocking.store(mariadb_server.url, namespace)
    grant = granted(drive(store.acquire(claim(limit=3, permits=3), queue=False)))
    with LockedRow(session, namespace) as row:
        enqueue = Later(store.acquire(claim(limit=3, permits=2), queue=True))
        row.waiting(1)
        release = Later(store.release(grant))
        row.waiting(2)
    ticket = enqueue.result()
    assert isinstance(ticket, Ticket)
    assert release.result() is True
    assert isinstance(drive(store.beat([], [ticket], within=5))[0], Grant)


def test_a_line_longer_than_its_rows_heals(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """Rows that somebody deleted by hand do not close the name for ever."""
    store = blocking.store(mariadb_server.url, namespace)
    grant = granted(drive(store.acquire(claim(), queue=False)))
    assert isinstance(drive(store.acquire(claim(), queue=True)), Ticket)
    session.execute(f"DELETE FROM {namespace}_line")
    assert drive(store.release(grant))
    assert drive(store.release(granted(drive(store.acquire(claim(), queue=False)))))


def test_what_nobody_used_for_a_day_is_forgotten(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    store = blocking.store(mariadb_server.url, namespace)
    for name in ("idle", "dead", "held"):
        grant = granted(drive(store.acquire(claim(name, ttl=60.0), queue=False)))
        if name == "idle":
            assert drive(store.release(grant))
    drive(store.put("deleted", b"x"))
    drive(store.put("kept", b"x"))
    drive(store.delete("deleted"))
    session.execute(f"UPDATE {namespace}_lease SET seen = seen - {procedures.MEMORY}")
    session.execute(f"UPDATE {namespace}_lease SET expires = 1 WHERE `key` = 'dead'")
    session.execute(f"UPDATE {namespace}_cell SET sweep_at = sweep_at - {procedures.MEMORY} - 1")
    drive(store._desk.ask(store._desk.sql.sweep))
    session.execute(f"SELECT `key` FROM {namespace}_lease")
    assert session.fetchall() == (("held",),)
    session.execute(f"SELECT `key` FROM {namespace}_cell")
    assert session.fetchall() == (("kept",),)


def test_a_renewal_that_waited_until_after_the_end_revives_nothing(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """P3, rule 6, also where one statement does it: what it knows of the time may be older than the row."""
    store = blocking.store(mariadb_server.url, namespace)
    grant = granted(drive(store.acquire(claim(ttl=1.0), queue=False)))
    with LockedRow(session, namespace) as row:
        beat = Later(store.beat([grant], [], within=9))
        row.waiting(1)
        time.sleep(1.1)
    assert beat.result() == [Lost()]


def test_a_release_that_waited_until_after_the_end_leaves_the_lock_delay(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    store = blocking.store(mariadb_server.url, namespace)
    grant = granted(drive(store.acquire(claim(ttl=1.0, lock_delay=60.0), queue=False)))
    with LockedRow(session, namespace) as row:
        release = Later(store.release(grant))
        row.waiting(1)
        time.sleep(1.1)
    assert release.result() is False
    assert drive(store.inspect("n")).closed_for > 0


def test_a_request_that_the_server_broke_off_leaves_nothing_on_its_connection(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """As a procedure that is killed between two statements: it runs no handlers, and its transaction stays open."""
    store = blocking.store(mariadb_server.url, namespace)
    granted(drive(store.acquire(claim(limit=3), queue=False)))
    session.execute(
        f"CREATE PROCEDURE {namespace}_broken() BEGIN START TRANSACTION; UPDATE {namespace}_lease SET lim = 7; "
        "SIGNAL SQLSTATE '45000'; END"
    )
    with pytest.raises(StoreError):
        drive(store._link.ask(f"CALL {namespace}_broken()"))
    eventually(lambda: not in_transaction(session), within=30)
    assert drive(store.inspect("n")).limit == 3


def test_a_bell_is_taken_down_where_its_owner_did_not_get_in_line(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, other_session: Any, namespace: str, claim: Any
) -> None:
    """A deadlock's victim asks again by the same session: hung up twice, the bell would be rung once and stay."""
    store = blocking.store(mariadb_server.url, namespace)
    granted(drive(store.acquire(claim(), queue=False)))
    values = ("A", "n", None, "somebody", "client", 0, 1, 1, 1, 1, 0, "{}", 1, 1)
    other_session.execute("SET SESSION innodb_lock_wait_timeout = 1")
    with LockedRow(session, namespace):
        with pytest.raises(pymysql.err.OperationalError, match="1205"):
            other_session.execute(store._desk.sql.one, values)
        assert not rings(session, "somebody")


def rings(session: Any, owner: str) -> bool:
    """Whether a session holds this owner's bell."""
    session.execute("SELECT IS_USED_LOCK(%s)", (f"locksmith:{owner}",))
    return session.fetchone()[0] is not None


def in_transaction(session: Any) -> bool:
    """Whether anybody is."""
    time.sleep(0.15)  # the table is made anew only where nobody has read it for 0.1 s
    session.execute("SELECT COUNT(*) FROM information_schema.innodb_trx")
    return bool(session.fetchone()[0])
