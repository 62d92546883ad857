"""The waiter hub, asyncio: one subscribed connection per client, read by one task."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from redis import exceptions as driver

from locksmith.errors import ClientClosed, StoreError
from locksmith.store import Ticket
from locksmith_redis.link import keep_for_ever
from locksmith_redis.link_async import abandon
from locksmith_redis.server import Endpoint
from locksmith_redis.waiters import PAUSES, Recheck, Waiters
from locksmith_redis.wire_async import cancellations, heed_cancellations


class AsyncHub:
    """Pushes to the tasks of one client. Connection and task belong to the loop that opened them."""

    def __init__(self, server: Endpoint, waiters: Waiters, recheck: Recheck) -> None:
        self._server = server
        self._recheck = recheck
        self.waiters = waiters
        self._fresh()

    def _fresh(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = asyncio.Lock()
        self._connection: Any = None
        # A strong reference: the loop has only a weak one.
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether we are subscribed, as far as we know, on the loop that runs now."""
        reading = self._reader is not None and not self._reader.done()
        return reading and self._connection is not None and self._loop is asyncio.get_running_loop()

    async def start(self) -> None:
        """Subscribe, unless we are; returns when the server has confirmed it. Raises the driver's errors."""
        self._settle_here()
        async with self._starting:
            if self.ready:
                return
            self._refuse_closed()
            if self._connection is None:
                self._connection = await self._subscribe()
        await self._unless_closed()
        self._keep_reading()
        if tickets := self.waiters.tickets():
            # Pushes may have been lost while nobody was subscribed. Where this cannot be asked the keeper's beat will.
            with suppress(StoreError):
                await self._recheck(tickets)

    def _keep_reading(self) -> None:
        if self._reader is None or self._reader.done():
            self._reader = asyncio.get_running_loop().create_task(self._read(), name="locksmith-redis-pushes")

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")

    async def _unless_closed(self) -> None:
        # Closing waits for nobody who is just about to subscribe, and has not seen this connection.
        if self._closed:
            connection, self._connection = self._connection, None
            if connection is not None:
                await _end(connection)
            self._refuse_closed()

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait: the reader task wakes the inbox."""
        self._refuse_closed()
        if ticket.inbox.peek() is None:
            if self._loop is asyncio.get_running_loop():
                # The task may have ended, for want of anybody who waits, while this ticket's number was on its way.
                self._keep_reading()
            await ticket.inbox.wait(timeout)

    def _settle_here(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._connection is not None:
            abandon(self._connection)
        self._fresh_on(loop)

    def _fresh_on(self, loop: asyncio.AbstractEventLoop) -> None:
        closed = self._closed
        self._fresh()
        self._closed = closed
        self._loop = loop

    async def _subscribe(self) -> Any:
        connection = await self._server.open(self._server.timeout)
        asked = cancellations()
        try:
            await connection.send_packed_command(self.waiters.subscription, False)
            while not self.waiters.confirms(message := await connection.read_response(True)):
                self.waiters.hear(message)
            heed_cancellations(asked)
            # Silence is normal from here on; a dead peer is found by TCP keepalive, and made up for by beats.
            connection.socket_timeout = None
        except BaseException:
            await _end(connection)
            raise
        return connection

    async def _read(self) -> None:
        failures = 0
        while not self._closed:
            connection = self._connection
            try:
                if connection is None:
                    await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
                    failures += 1
                    if not self.waiters.tickets():
                        return  # nobody waits: who queues next subscribes
                    await self.start()
                else:
                    failures = 0
                    message = await connection.read_response(True)
                    if not self.waiters.confirms(message):
                        self.waiters.hear(message)
            except (driver.RedisError, OSError, StoreError, ClientClosed):
                if connection is not None:
                    self._connection = None
                    await _end(connection)

    def move(self) -> None:
        """See Hub.move."""
        writer = getattr(self._connection, "_writer", None)
        if writer is not None and self._loop is asyncio.get_running_loop():
            writer.transport.abort()

    async def close(self) -> None:
        """End the task and the connection."""
        self._closed = True
        self._settle_here()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.disconnect()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever((self._connection, self._reader))
        closed = self._closed
        self.waiters.reset()
        self._fresh()
        self._closed = closed


async def _end(connection: Any) -> None:
    with suppress(Exception):
        await connection.disconnect(nowait=True)
