"""Connections for requests, blocking: a few held ones, so that threads that ask at once need not queue up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from locksmith.errors import ClientClosed
from locksmith_sql.postgresql.errors import MISSING, Broken, Late, Refused
from locksmith_sql.postgresql.opening import Dialogue, check_tables, introduce
from locksmith_sql.postgresql.statements import Statement, Statements
from locksmith_sql.postgresql.url import Server
from locksmith_sql.postgresql.wire import Params, Result, Wire, opening, run

Answer: TypeAlias = tuple[Result, float, bool]
"""A result; the clock, read before the request that was answered was sent; whether the request was sent twice, so that
the first one may have acted already.
"""

_escrow: Final[list[object]] = []
"""Connections inherited by a fork, kept for ever: collecting one would speak on the parent's socket."""


class Link:
    """The connections of one blocking client."""

    def __init__(self, server: Server, statements: Statements, now: Callable[[], float]) -> None:
        self.server = server
        self._statements = statements
        self._now = now
        self._closed = False
        self._fresh()

    def _fresh(self) -> None:
        self._idle: list[Wire] = []
        self._places = threading.Semaphore(self.server.connections)
        self._ready = self._lacking = False
        self.pooled: bool | None = None
        """Whether there is a transaction pooler in between, once it is known."""

    def ask(self, statement: Statement, params: Params, within: float | None = None, *, once: bool = False) -> Answer:
        """A statement's answer. Raises Refused, Broken, Late, StoreError.

        A connection that had been idle may have died unnoticed: then the request is sent again on a new one, unless it
        may be sent `once` at most.
        """
        until = time.monotonic() + (self.server.timeout if within is None else within)
        if not self._places.acquire(timeout=max(0.0, until - time.monotonic())):
            raise Late(f"all {self.server.connections} connections are busy")
        try:
            again = False
            wire = self._idle_one()
            if wire is not None:
                try:
                    return self._ask_on(wire, statement, params, until, again=False)
                except Broken:
                    self._drop_idle()
                    if once:
                        raise
                    again = True
                except Refused as refused:
                    if refused.state not in MISSING:
                        raise
                    self._ready, self._lacking = False, True  # somebody has dropped our tables
                    self._drop_idle()
            return self._ask_on(self.open(until), statement, params, until, again=again)
        finally:
            self._places.release()

    def _ask_on(self, wire: Wire, statement: Statement, params: Params, until: float, *, again: bool) -> Answer:
        since = self._now()
        try:
            result = wire.ask(statement, params, until)
        except Refused:
            self._keep(wire)
            raise
        except BaseException:
            # Also KeyboardInterrupt: the answer may come yet, and must not be taken for that of the next request.
            wire.close()
            raise
        self._keep(wire)
        return result, since, again

    def open(self, until: float, *, tables: bool = True) -> Wire:
        """A new connection, set up; with `tables` these are made sure of. Raises Refused, Broken, Late, StoreError."""
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        wire = self._connect(until)
        try:
            self.talk(wire, introduce(wire, self.server), until)
            self.pooled = wire.pooled
            if tables and not self._ready:
                self.talk(wire, check_tables(self._statements, self.server.address, lacking=self._lacking), until)
                self._ready, self._lacking = True, False
        except BaseException:
            wire.close()
            raise
        return wire

    def _connect(self, until: float) -> Wire:
        if self.server.engine is not None:
            from locksmith_sql.postgresql.engines import open_blocking

            return Wire(*open_blocking(self.server.engine))
        attempts = self.server.attempts
        for at, conninfo in enumerate(attempts):
            left = until - time.monotonic()
            try:
                return Wire(run(opening(conninfo), time.monotonic() + left / (len(attempts) - at)))
            except (Broken, Late):
                if at + 1 == len(attempts):
                    raise
        raise Broken("no host is named")

    @staticmethod
    def talk(wire: Wire, dialogue: Dialogue, until: float) -> None:
        """Hold a dialogue on a connection."""
        try:
            text = next(dialogue)
            while True:
                try:
                    results = wire.text(text, until)
                except Refused as refused:
                    text = dialogue.throw(refused)
                else:
                    text = dialogue.send(results)
        except StopIteration:
            return

    def _idle_one(self) -> Wire | None:
        while self._idle:
            try:
                wire = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if not wire.stale():
                return wire
            wire.close()
        return None

    def _keep(self, wire: Wire) -> None:
        if self._closed:
            wire.close()
        else:
            self._idle.append(wire)

    def _drop_idle(self) -> None:
        # What killed one idle connection has killed the others too; each would cost its next user a second try.
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        self._closed = True
        self._drop_idle()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._idle)
        self._fresh()


def keep_for_ever(what: object) -> None:
    """Never let go of this, so that nothing closes it."""
    _escrow.append(what)
