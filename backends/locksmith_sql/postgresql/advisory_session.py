"""One session of the server: a connection whose locks live as long as it does.

The server ends it a ttl after its last word (`idle_session_timeout`), which is how a holder that stopped loses its locks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Final

from locksmith.errors import ConfigurationError, StoreProtocolError
from locksmith.runtime import Runtime
from locksmith_sql.postgresql.advisory_sql import AdvisoryStatements
from locksmith_sql.postgresql.errors import Broken, Late, Refused
from locksmith_sql.postgresql.statements import Statement
from locksmith_sql.postgresql.wire import Params, Result

OLDEST: Final = 140_000
"""PostgreSQL 14: idle_session_timeout and client_connection_check_interval."""
_SETTINGS: Final = "SET idle_session_timeout = {ttl}; SET client_connection_check_interval = {look}"


class Session:
    """A session and its turn: requests are made one at a time, and what became of an unanswered one is found out."""

    def __init__(self, link: Any, statements: AdvisoryStatements, runtime: Runtime, ttl: float) -> None:
        self.ttl = ttl
        self.wire: Any = None
        self._link = link
        self._statements = statements
        self._runtime = runtime
        self._turn: Any = asyncio.Lock() if runtime.is_async else threading.Lock()
        self._owed = False
        self._doubts: set[bytes] = set()

    async def ask(
        self, statement: Statement, params: Params, within: float, *, only: Any = None, doubt: bytes | None = None
    ) -> tuple[Result, float, Any] | None:
        """The answer, the clock before it was asked for, and the connection. Raises Refused, Broken, Late, StoreError.

        None where this is not the connection `only` any more. `doubt`: a lock that is given back at the next
        opportunity unless the answer is heard.
        """
        until = time.monotonic() + within
        await self._take_turn(until)
        try:
            old = self.wire
            try:
                return await self._ask(statement, params, until, only, doubt)
            except Broken:
                if only is not None or old is None:
                    raise
                # It had ended unnoticed, and with it whatever this request has got.
                return await self._ask(statement, params, until, only, doubt)
        finally:
            self._turn.release()

    async def _ask(self, statement: Statement, params: Params, until: float, only: Any, doubt: bytes | None) -> Any:
        wire = await self._ready(until, only)
        if wire is None:
            return None
        since = self._runtime.clock.now()
        if doubt is not None:
            self._doubts.add(doubt)
        self._owed = True
        try:
            wire.begin(statement, params)
        except Broken:
            self.end()
            raise
        result = await self._answer(wire, until)
        if doubt is not None:
            self._doubts.discard(doubt)
        return result, since, wire

    def gone(self, wire: Any) -> bool:
        """Whether this connection of ours has ended, as far as can be seen without asking the server."""
        if self.wire is not wire:
            return True
        # Whoever has the turn sees for themselves.
        if self._turn.locked() if isinstance(self._turn, asyncio.Lock) else not self._turn.acquire(blocking=False):
            return False
        try:
            if not self._owed and wire.stale():
                self.end()
            return self.wire is not wire
        finally:
            if not isinstance(self._turn, asyncio.Lock):
                self._turn.release()

    async def begin(self, statement: Statement, params: Params, within: float) -> Any:
        """Send and do not wait for the answer, on a session that nobody else uses: the connection."""
        until = time.monotonic() + within
        wire = await self._ready(until, None)
        self._owed = True
        wire.begin(statement, params)
        return wire

    async def answered(self, until: float) -> Result:
        """The answer to what `begin` has sent. Raises Late where it is not there yet, Refused, Broken."""
        return await self._answer(self.wire, until)

    async def _answer(self, wire: Any, until: float) -> Result:
        try:
            result = await self._runtime.settle(wire.answer(until))
        except Refused:
            self._owed = False
            raise
        except Broken:
            self.end()
            raise
        self._owed = False
        return result

    async def _take_turn(self, until: float) -> None:
        left = max(0.0, until - time.monotonic())
        if isinstance(self._turn, asyncio.Lock):
            try:
                async with asyncio.timeout(left):
                    await self._turn.acquire()
            except TimeoutError:
                raise Late("the session is busy") from None
        elif not self._turn.acquire(timeout=left):
            raise Late("the session is busy")

    async def _ready(self, until: float, only: Any) -> Any:
        if self.wire is not None and not self._owed and self.wire.stale():
            self.end()
        if only is not None and self.wire is not only:
            return None
        if self.wire is None:
            self.wire = await self._open(until)
        if self._owed:
            try:
                await self._answer(self.wire, until)
            except Refused:
                pass
        for lock in tuple(self._doubts):
            self._owed = True
            self.wire.begin(self._statements.undo, [lock])
            await self._answer(self.wire, until)
            self._doubts.discard(lock)
        return self.wire

    async def _open(self, until: float) -> Any:
        settle = self._runtime.settle
        wire = await settle(self._link.open(until))
        try:
            if wire.pooled:
                raise ConfigurationError(
                    "there is a transaction pooler in between, behind which session locks do not live: connect to the "
                    "server itself, or leave mode=advisory out"
                )
            if wire.pg.server_version < OLDEST:
                raise StoreProtocolError(
                    "PostgreSQL: mode=advisory needs version 14 or later, which ends the session of a stopped holder: "
                    "leave it out."
                )
            ttl = max(1, round(self.ttl * 1000))
            text = _SETTINGS.format(ttl=ttl, look=max(1, min(1000, ttl // 3)))
            await settle(wire.text(text.encode(), until))
            for statement in (self._statements.take, self._statements.give, self._statements.alive, self._statements.undo):
                await settle(wire.prepare(statement, until))
        except BaseException:
            wire.close()
            raise
        return wire

    async def unlimited(self, within: float) -> None:
        """This session is for waiting: no time limit for statements."""
        until = time.monotonic() + within
        wire = await self._ready(until, None)
        self._owed = True
        await self._runtime.settle(wire.text(b"SET statement_timeout = 0", until))
        self._owed = False

    def end(self) -> None:
        """End it, and with it all of its locks."""
        wire, self.wire = self.wire, None
        self._owed = False
        self._doubts.clear()
        if wire is not None:
            wire.close()
