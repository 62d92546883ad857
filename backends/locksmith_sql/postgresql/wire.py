"""A connection, opened by libpq and spoken to through psycopg's `pq`: what both runtimes share, and the blocking one.

psycopg's cursors cost as much as a request's own work (adaptation, a lock, several layers of calls), and their waits
have no time limit. Here a request is five calls of libpq and one poll, bounded by a deadline.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import pq

from locksmith import redact
from locksmith_sql.postgresql.errors import Broken, Late, Refused
from locksmith_sql.postgresql.statements import Statement

Result: TypeAlias = Any
"""A PGresult."""
Params: TypeAlias = Sequence[bytes | None]
Steps: TypeAlias = Generator[tuple[int, int], None, Any]
"""Yields the socket that is waited for, and for what of it."""

_READ: Final = select.POLLIN
_WRITE: Final = select.POLLOUT
_GOOD: Final = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY})
_STATE: Final = pq.DiagnosticField.SQLSTATE
_TEXT: Final = pq.DiagnosticField.MESSAGE_PRIMARY
# Terminated by an operator, by a crash of another process, or for having been idle; or the database was dropped.
_ENDED: Final = frozenset({"57P01", "57P02", "57P04", "57P05", "25P03"})

BEGIN: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
COMMIT: Final = b"COMMIT"
ROLLBACK: Final = b"ROLLBACK"


class Session:
    """One connection and what is known of it. Whoever gets anything but `Refused` from it must `close` it."""

    def __init__(self, pg: Any, held: Any = None) -> None:
        self.pg = pg
        self.held = held
        """What a user's engine opened this with, and closes it with."""
        pg.nonblocking = 1
        self.pooled = False
        """Behind a transaction pooler: every transaction may run in another session of the server."""
        self.wrapped = False
        """Each request in a transaction of its own that says which level it needs."""
        self._prepared: set[bytes] = set()

    def _send(self, statement: Statement, params: Params) -> bool:
        """Send a statement, or where it is new what prepares it: then it is not sent yet, and the answer is False."""
        try:
            if self.pooled:
                self.pg.send_query_params(statement.text, params, None, statement.formats)
            elif statement.name in self._prepared:
                self.pg.send_query_prepared(statement.name, params, statement.formats)
            else:
                self.pg.send_prepare(statement.name, statement.text)
                return False
        except psycopg.Error as error:
            raise Broken(redact.text(error)) from error
        return True

    def begin(self, statement: Statement, params: Params) -> None:
        """Send a prepared statement and do not wait. Raises Broken."""
        self._send(statement, params)

    def _send_text(self, text: bytes) -> None:
        try:
            self.pg.send_query(text)
        except psycopg.Error as error:
            raise Broken(redact.text(error)) from error

    def checked(self, results: list[Result]) -> list[Result]:
        """These, if none of them is an error. Raises Refused, Broken."""
        for result in results:
            if result.status not in _GOOD:
                raise self._refusal(result)
        return results

    def _refusal(self, result: Result) -> Refused | Broken:
        state = (result.error_field(_STATE) or b"").decode()
        text = (result.error_field(_TEXT) or result.error_message or b"").decode("utf-8", "replace")
        if not state or state in _ENDED or self.pg.status != pq.ConnStatus.OK:
            return Broken(text.strip())
        return Refused(state, text.strip())

    def _flush(self) -> bool:
        """Whether there is more to send than the socket takes now."""
        try:
            return bool(self.pg.flush())
        except psycopg.Error as error:
            raise Broken(redact.text(error)) from error

    def _consume(self) -> None:
        try:
            self.pg.consume_input()
        except psycopg.Error as error:
            raise Broken(redact.text(error)) from error

    def _news(self) -> list[bytes]:
        found = []
        while (notice := self.pg.notifies()) is not None:
            found.append(notice.extra)
        if self.pg.status != pq.ConnStatus.OK:
            raise Broken("the server closed the connection")
        return found

    def _finish(self) -> None:
        with suppress(Exception):
            self.pg.finish()
            if self.held is not None:
                self.held.close()


class Wire(Session):
    """The blocking one. Used by one thread at a time."""

    def __init__(self, pg: Any, held: Any = None) -> None:
        super().__init__(pg, held)
        self._poller = select.poll()  # looked up now: gevent's patching replaces it
        self._poller.register(pg.socket, _READ)

    def ask(self, statement: Statement, params: Params, until: float) -> Result:
        """A statement's result. Raises Refused, Broken, Late (after time.monotonic() has passed `until`)."""
        if self.wrapped:
            return self._wrapped(statement, params, until)
        if not self._send(statement, params):
            self._collect(until)
            self._prepared.add(statement.name)
            self._send(statement, params)
        return self._collect(until)[-1]

    def prepare(self, statement: Statement, until: float) -> None:
        """Prepare a statement for `begin`. Raises as `ask`."""
        if not self._send(statement, []):
            self._collect(until)
            self._prepared.add(statement.name)

    def text(self, text: bytes, until: float) -> list[Result]:
        """The results of a text of ours, without values. Raises as `ask`."""
        self._send_text(text)
        return self._collect(until)

    def _wrapped(self, statement: Statement, params: Params, until: float) -> Result:
        self.text(BEGIN, until)
        try:
            self._send(statement, params)
            result = self._collect(until)[-1]
        except Refused:
            self.text(ROLLBACK, until)
            raise
        self.text(COMMIT, until)
        return result

    def _collect(self, until: float) -> list[Result]:
        results = []
        # libpq would wait for the end of an answer without a time limit: it is only asked for what has arrived.
        self.arrive(until)
        while (result := self.pg.get_result()) is not None:
            results.append(result)
            self.arrive(until)
        return self.checked(results)

    def arrive(self, until: float) -> None:
        """Wait until the next result can be had of libpq at once; may be waited for again. Raises Broken, Late."""
        pg = self.pg
        while self._flush():
            # Read as well: a server that cannot write its answer does not read on.
            poll(pg.socket, _READ | _WRITE, until)
            self._consume()
        while pg.is_busy():
            left = until - time.monotonic()
            if left <= 0 or not self._poller.poll(left * 1000):
                raise Late("no answer in time")
            self._consume()

    def news(self) -> list[bytes]:
        """The pushes that have arrived. Raises Broken where the server has hung up."""
        self._consume()
        return self._news()

    def stale(self) -> bool:
        """Whether the server has hung up while this was idle, as far as can be seen without asking it."""
        if not self._poller.poll(0):
            return False
        try:
            self._consume()
        except Broken:
            return True
        return bool(self.pg.status != pq.ConnStatus.OK)

    def close(self) -> None:
        """End the connection."""
        self._finish()


def opening(conninfo: bytes, started: Any = None) -> Steps:
    """Connect and authenticate; returns the PGconn. Raises Broken. Looking up the host may block: see `start`."""
    pg = start(conninfo) if started is None else started
    done = False
    try:
        if pg.status == pq.ConnStatus.BAD:
            raise Broken(_said(pg))
        events = _WRITE
        while True:
            yield pg.socket, events
            state = pg.connect_poll()
            if state == pq.PollingStatus.OK:
                done = True
                return pg
            if state == pq.PollingStatus.FAILED:
                raise Broken(_said(pg))
            events = _READ if state == pq.PollingStatus.READING else _WRITE
    except psycopg.Error as error:
        raise Broken(redact.text(error)) from error
    finally:
        if not done:
            pg.finish()


def start(conninfo: bytes) -> Any:
    """Begin to connect."""
    return pq.PGconn.connect_start(conninfo)


def run(steps: Steps, until: float) -> Any:
    """Take these steps on this thread. Raises what they raise, and Late."""
    try:
        while True:
            fd, events = next(steps)
            poll(fd, events, until)
    except StopIteration as done:
        return done.value
    finally:
        steps.close()


def poll(fd: int, events: int, until: float) -> None:
    """Sleep until the socket is ready. Raises Late."""
    poller = select.poll()
    poller.register(fd, events)
    left = until - time.monotonic()
    if left <= 0 or not poller.poll(math.ceil(left * 1000)):
        raise Late("no answer in time")


def _said(pg: Any) -> str:
    return redact.text(Exception(pg.error_message.decode("utf-8", "replace").strip()))
