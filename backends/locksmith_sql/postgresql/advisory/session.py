"""One session of the server, which has any number of locks, and which a late answer does not cost us.

A session that is closed gives up all of its locks. So whoever is interrupted between a request and its answer leaves
the answer *owed*: the next request of the session hears it first, and tells whoever it was for.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from locksmith.runtime import Runtime
from locksmith.store import Inbox
from locksmith_sql.postgresql.advisory.statements import AdvisoryStatements
from locksmith_sql.postgresql.advisory.watch import Watch
from locksmith_sql.postgresql.errors import Broken, Late, Refused
from locksmith_sql.postgresql.hub import pipe
from locksmith_sql.postgresql.statements import Statement
from locksmith_sql.postgresql.wire import Params, Result

Heard: TypeAlias = Callable[[Result | None], None]
"""Told of an answer, whoever hears it; None where the server refused. May be told twice."""
_TURN: Final = 1.0
"""Seconds that somebody else may use a session that has nothing to do."""
# The server hung up. Where the system has no word for that (Linux has), it is seen with the next request.
_HUNG_UP: Final = getattr(select, "POLLRDHUP", select.POLLHUP)


class Hold:
    """A lock that a session has (`token`), or has asked for; `over` once it has it no more."""

    __slots__ = ("lock", "over", "owner", "session", "since", "token", "waits")

    def __init__(self, owner: str, lock: bytes, session: Session, *, waits: bool = False) -> None:
        self.owner = owner
        self.lock = lock
        self.session = session
        self.waits = waits
        self.token = 0
        self.since = 0.0
        self.over = False


class Session:
    """Used by one thread or task at a time, which has its *turn*."""

    def __init__(self, wire: Any, ttl: float, statements: AdvisoryStatements, runtime: Runtime) -> None:
        self.wire = wire
        self.ttl = ttl
        self.pid = b"%d" % wire.pg.backend_pid
        self.holds: dict[bytes, Hold] = {}
        """By lock. Locks are re-entrant for their session: no two of these may be for one."""
        self.litter: set[bytes] = set()
        """Locks that this session may have, and that nobody wants."""
        self.fd: int = wire.pg.socket
        self.ended: Callable[[], None] = _nothing
        """Called, by any thread, when the session has ended."""
        self._statements = statements
        self._runtime = runtime
        self._now = runtime.clock.now
        self._turn: Any = asyncio.Lock() if runtime.is_async else threading.Lock()
        self._owed = False
        self._heard: Heard | None = None
        self._results: list[Result] = []
        self._inbox: Inbox | None = None
        self._bell: tuple[int, int] | None = None
        self._watch: Watch | None = None
        self.dead = False
        """Whether it is known to have ended."""
        if runtime.is_async:
            wire.on_news = self._news

    def watched(self, watch: Watch) -> None:
        """Have `ended` called at once when the server hangs up."""
        self._watch = watch
        watch.add(self.fd, self._hung_up)

    @property
    def gone(self) -> bool:
        """Whether the session has ended, and its locks with it, as far as can be seen. For any thread."""
        if self.dead:
            return True
        if self._runtime.is_async:
            return bool(self.wire.stale())
        poller = select.poll()
        poller.register(self.fd, _HUNG_UP)
        return bool(poller.poll(0))

    async def ask(
        self,
        statement: Statement,
        params: Params,
        until: float,
        heard: Heard | None = None,
        *,
        about: Hold | None = None,
    ) -> tuple[Result, float]:
        """An answer, and the clock before it was asked for. Raises Refused, Broken, Late.

        Asks nothing, and answers None, where the hold that it is `about` is over by the time it is our turn.
        """
        await self._take_turn(until)
        try:
            await self._settle(until)
            if about is not None and about.over:
                return None, 0.0
            since = self._now()
            self._send(statement, params, heard)
            return await self._answer(until), since
        finally:
            self._turn.release()

    async def settle(self, until: float) -> None:
        """Hear what is owed. Raises Broken, Late."""
        await self._take_turn(until)
        try:
            await self._settle(until)
        finally:
            self._turn.release()

    async def begin(self, statement: Statement, params: Params, seconds: float, heard: Heard) -> None:
        """Ask for what may take for ever, and wait so long for the answer. Raises Refused, Broken, Late."""
        await self._take_turn(time.monotonic() + _TURN)
        try:
            await self._settle(time.monotonic() + _TURN)
            self._send(statement, params, heard)
            if seconds:
                with suppress(Late):
                    await self._answer(time.monotonic() + seconds)
        finally:
            self._turn.release()

    async def hear(self, inbox: Inbox, until: float | None, within: float) -> None:
        """Sleep until what `begin` asked for is heard, or the inbox has news, or `until`. Raises Refused, Broken."""
        await self._sleep(inbox, until)
        until = time.monotonic() + within
        await self._take_turn(until)
        try:
            if self.dead:
                raise Broken("the session has ended")
            if self._owed:
                try:
                    self.wire.news()
                except Broken:
                    self.end()
                    raise
                if not self.wire.pg.is_busy():
                    await self._answer(until)
        finally:
            self._turn.release()

    async def quit(self, until: float) -> None:
        """End the session when nobody uses it. Raises Late."""
        await self._take_turn(until)
        try:
            self.end()
        finally:
            self._turn.release()

    def retire(self) -> None:
        """End a session that has hung up, unless somebody uses it, who will."""
        if self._runtime.is_async:
            if not self._turn.locked():
                self.end()
        elif self._turn.acquire(blocking=False):
            try:
                self.end()
            finally:
                self._turn.release()

    def end(self) -> None:
        """End the session, and with it all of its locks. For whoever has the turn."""
        if not self.dead:
            self.dead = True
            if self._watch is not None:
                self._watch.remove(self.fd)
            self.ended()
            self._ring()
            self.wire.close()

    # With the turn.

    async def _settle(self, until: float) -> None:
        if self.dead:
            raise Broken("the session has ended")
        if self._owed:
            with suppress(Refused):
                await self._answer(until)
        elif self.wire.stale():
            self.end()
            raise Broken("the session has ended")
        while self.litter:
            lock = next(iter(self.litter))
            self._send(self._statements.undo, [lock], partial(self._tidied, lock))
            await self._answer(until)

    def _tidied(self, lock: bytes, _: Result | None) -> None:
        self.litter.discard(lock)

    def _send(self, statement: Statement, params: Params, heard: Heard | None) -> None:
        self._results = []
        self._heard = heard
        self._owed = True
        try:
            self.wire.begin(statement, params)
        except Broken:
            self.end()
            raise

    async def _answer(self, until: float) -> Result:
        wire = self.wire
        try:
            while True:
                await self._runtime.settle(wire.arrive(until))
                result = wire.pg.get_result()
                if result is None:
                    break
                self._results.append(result)
            found = wire.checked(self._results)
            if not found:  # an interruption took it
                raise Broken("an answer was lost")
        except Refused:
            self._tell(None)
            raise
        except Broken:
            self.end()
            raise
        self._tell(found[-1])
        return found[-1]

    def _tell(self, result: Result | None) -> None:
        if self._heard is not None:
            self._heard(result)
        self._owed = False

    # Sleeping, without the turn.

    async def _take_turn(self, until: float) -> None:
        if not self._runtime.is_async:
            if not self._turn.acquire(timeout=max(0.0, until - time.monotonic())):
                raise Late("the session is busy")
        elif self._turn.locked():
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await self._turn.acquire()
            except TimeoutError:
                raise Late("the session is busy") from None
        else:
            await self._turn.acquire()  # at once

    async def _sleep(self, inbox: Inbox, until: float | None) -> None:
        left = None if until is None else max(0.0, until - time.monotonic())
        if self._runtime.is_async:
            self._inbox = inbox
            try:
                if self._owed and not self.dead and self.wire.pg.is_busy():
                    await inbox.wait(left)
            finally:
                self._inbox = None
            return
        self._bell = self._bell or pipe()
        poller = select.poll()  # looked up now: gevent's patching replaces it
        poller.register(self.fd, select.POLLIN)
        poller.register(self._bell[0], select.POLLIN)
        inbox.wakers.append(self._ring)
        try:
            if inbox.peek() is None and self._owed and not self.dead:
                poller.poll(None if left is None else left * 1000 + 1)
        finally:
            inbox.wakers.remove(self._ring)
            with suppress(BlockingIOError):
                os.read(self._bell[0], 4096)

    def _ring(self) -> None:
        if self._bell is not None:
            with suppress(BlockingIOError):  # full: it will wake up anyway
                os.write(self._bell[1], b"!")
        if self._inbox is not None:
            self._inbox.wake()

    def _news(self) -> None:
        if self._inbox is not None:
            self._inbox.wake()
        if self.wire.hung_up:
            self._hung_up()

    def _hung_up(self) -> None:
        self.retire()
        self.ended()


def _nothing() -> None:
    pass
