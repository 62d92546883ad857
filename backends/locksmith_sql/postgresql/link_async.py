"""Connections for requests, asyncio: the same rules as `link`, on the event loop that asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from locksmith.errors import ClientClosed
from locksmith.runtime import Runtime
from locksmith_sql.postgresql.errors import MISSING, Broken, Late, Refused
from locksmith_sql.postgresql.link import Answer, keep_for_ever
from locksmith_sql.postgresql.opening import Dialogue, check_tables, introduce
from locksmith_sql.postgresql.statements import Statement, Statements
from locksmith_sql.postgresql.url import Server
from locksmith_sql.postgresql.wire import Params, opening, start
from locksmith_sql.postgresql.wire_async import AsyncWire, run


class AsyncLink:
    """The connections of one asyncio client. They belong to the loop that opened them."""

    def __init__(self, server: Server, statements: Statements, now: Callable[[], float], runtime: Runtime) -> None:
        self.server = server
        self._statements = statements
        self._now = now
        self._runtime = runtime
        self._closed = False
        self._ready = self._lacking = False
        self.pooled: bool | None = None
        self._idle: list[AsyncWire] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(
        self, statement: Statement, params: Params, within: float | None = None, *, once: bool = False
    ) -> Answer:
        """See Link.ask."""
        if asyncio.get_running_loop() is not self._loop:
            self.settle_here()
        until = time.monotonic() + (self.server.timeout if within is None else within)
        await self._take_place(until)
        try:
            again = False
            wire = self._idle_one()
            if wire is not None:
                try:
                    return await self._ask_on(wire, statement, params, until, again=False)
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
            return await self._ask_on(await self.open(until), statement, params, until, again=again)
        finally:
            self._places.release()

    async def _take_place(self, until: float) -> None:
        if not self._places.locked():
            await self._places.acquire()  # at once
            return
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._places.acquire()
        except TimeoutError:
            raise Late(f"all {self.server.connections} connections are busy") from None

    async def _ask_on(
        self, wire: AsyncWire, statement: Statement, params: Params, until: float, *, again: bool
    ) -> Answer:
        since = self._now()
        try:
            result = await wire.ask(statement, params, until)
        except Refused:
            self._keep(wire)
            raise
        except BaseException:
            # Also CancelledError: the answer may come yet, and must not be taken for that of the next request.
            wire.close()
            raise
        self._keep(wire)
        return result, since, again

    async def open(self, until: float, *, tables: bool = True) -> AsyncWire:
        """See Link.open."""
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        wire = await self._connect(until)
        try:
            await self.talk(wire, introduce(wire, self.server), until)
            self.pooled = wire.pooled
            if tables and not self._ready:
                await self.talk(wire, check_tables(self._statements, self.server.address, lacking=self._lacking), until)
                self._ready, self._lacking = True, False
        except BaseException:
            wire.close()
            raise
        return wire

    async def _connect(self, until: float) -> AsyncWire:
        if self.server.engine is not None:
            from locksmith_sql.postgresql.engines import open_async

            pg, held = await open_async(self.server.engine, self._runtime)
            return AsyncWire(pg, held)
        attempts = self.server.attempts
        for at, conninfo in enumerate(attempts):
            left = until - time.monotonic()
            try:
                # Looking up a host may block.
                pg = await self._runtime.call(partial(start, conninfo))
                return AsyncWire(await run(opening(conninfo, pg), time.monotonic() + left / (len(attempts) - at)))
            except (Broken, Late):
                if at + 1 == len(attempts):
                    raise
        raise Broken("no host is named")

    @staticmethod
    async def talk(wire: AsyncWire, dialogue: Dialogue, until: float) -> None:
        """See Link.talk."""
        try:
            text = next(dialogue)
            while True:
                try:
                    results = await wire.text(text, until)
                except Refused as refused:
                    text = dialogue.throw(refused)
                else:
                    text = dialogue.send(results)
        except StopIteration:
            return

    def _idle_one(self) -> AsyncWire | None:
        while self._idle:
            wire = self._idle.pop()
            if not wire.stale():
                return wire
            wire.close()
        return None

    def _keep(self, wire: AsyncWire) -> None:
        if self._closed:
            wire.close()
        else:
            self._idle.append(wire)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def settle_here(self) -> None:
        """Another loop runs now: what the old one opened cannot be used here."""
        for wire in self._idle:
            dismiss(wire)
        self._idle = []
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(self.server.connections)

    async def close(self) -> None:
        """See Link.close."""
        self._closed = True
        if asyncio.get_running_loop() is not self._loop:
            self.settle_here()
        self._drop_idle()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._idle)
        self._idle = []
        self._loop = None
        self._ready = False


def dismiss(wire: AsyncWire) -> None:
    """Close a connection of another event loop, which may have ended."""
    loop: Any = wire.loop
    if loop.is_closed() or not loop.is_running():
        wire.close()
    else:
        loop.call_soon_threadsafe(wire.close)
