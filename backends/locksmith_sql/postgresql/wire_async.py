"""A connection on an event loop: libpq's socket is read whenever something comes, also while nothing was asked."""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable
from typing import Any

from psycopg import pq

from locksmith_sql.postgresql.errors import Broken, Late, Refused
from locksmith_sql.postgresql.statements import Statement
from locksmith_sql.postgresql.wire import BEGIN, COMMIT, ROLLBACK, Params, Result, Session, Steps


class AsyncWire(Session):
    """As `Wire`, for tasks of one event loop, one at a time."""

    def __init__(self, pg: Any, held: Any = None) -> None:
        super().__init__(pg, held)
        self.on_news: Callable[[], None] | None = None
        """Called after something has arrived, or the connection has ended."""
        self.loop = asyncio.get_running_loop()
        # A descriptor of our own: libpq closes its own when the server hangs up, and the number may be that of another
        # connection by the time we tell the loop.
        self._fd = os.dup(pg.socket)
        self._lost: Broken | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.loop.add_reader(self._fd, self._readable)

    async def ask(self, statement: Statement, params: Params, until: float) -> Result:
        """See Wire.ask."""
        if self.wrapped:
            return await self._wrapped(statement, params, until)
        if not self._send(statement, params):
            await self._collect(until)
            self._prepared.add(statement.name)
            self._send(statement, params)
        return (await self._collect(until))[-1]

    async def prepare(self, statement: Statement, until: float) -> None:
        """See Wire.prepare."""
        if not self._send(statement, []):
            await self._collect(until)
            self._prepared.add(statement.name)

    async def text(self, text: bytes, until: float) -> list[Result]:
        """See Wire.text."""
        self._send_text(text)
        return await self._collect(until)

    async def _wrapped(self, statement: Statement, params: Params, until: float) -> Result:
        await self.text(BEGIN, until)
        try:
            self._send(statement, params)
            result = (await self._collect(until))[-1]
        except Refused:
            await self.text(ROLLBACK, until)
            raise
        await self.text(COMMIT, until)
        return result

    async def _collect(self, until: float) -> list[Result]:
        results = []
        await self.arrive(until)
        while (result := self.pg.get_result()) is not None:
            results.append(result)
            await self.arrive(until)
        return self.checked(results)

    async def arrive(self, until: float) -> None:
        """See Wire.arrive."""
        pg = self.pg
        while self._flush():
            if self._lost is not None:
                raise self._lost
            await ready(self._fd, select.POLLOUT, until)
        while pg.is_busy():
            if self._lost is not None:
                raise self._lost
            self._waiter = waiter = self.loop.create_future()
            alarm = self.loop.call_later(max(0.0, until - time.monotonic()), _late, waiter)
            try:
                await waiter
            finally:
                alarm.cancel()
                self._waiter = None

    def _readable(self) -> None:
        try:
            self._consume()
        except Broken as broken:
            self._end(broken)
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (self._lost is not None or not self.pg.is_busy()):
            waiter.set_result(None)
        if self.on_news is not None:
            self.on_news()

    def _end(self, broken: Broken) -> None:
        self._lost = broken
        if not self.loop.is_closed():
            self.loop.remove_reader(self._fd)

    def news(self) -> list[bytes]:
        """See Wire.news; everything that came was read already."""
        if self._lost is not None:
            raise self._lost
        return self._news()

    def stale(self) -> bool:
        """See Wire.stale: the loop has seen it, or would in its next turn."""
        if self.hung_up:
            return True
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        if poller.poll(0):
            self._readable()
        return self.hung_up

    @property
    def hung_up(self) -> bool:
        """Whether the server has hung up, as far as the loop has seen."""
        return self._lost is not None or self.pg.status != pq.ConnStatus.OK

    def close(self) -> None:
        """End the connection. Idempotent."""
        if self._fd < 0:
            return
        self._end(self._lost or Broken("the connection was closed"))
        self._finish()
        os.close(self._fd)
        self._fd = -1


async def run(steps: Steps, until: float) -> Any:
    """Take these steps on the running loop. Raises what they raise, and Late."""
    try:
        while True:
            fd, events = next(steps)
            await ready(fd, events, until)
    except StopIteration as done:
        return done.value
    finally:
        steps.close()


async def ready(fd: int, events: int, until: float) -> None:
    """Sleep until the socket is ready. Raises Late. Not for a socket that the loop reads already."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if events & select.POLLOUT else (loop.add_reader, loop.remove_reader)
    )
    add(fd, _resolve, waiter)
    alarm = loop.call_later(max(0.0, until - time.monotonic()), _late, waiter)
    try:
        await waiter
    finally:
        alarm.cancel()
        remove(fd)


def _late(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(Late("no answer in time"))


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
