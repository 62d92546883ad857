"""An asyncio connection: opened by the driver, spoken to by us.

As in `wire`, the driver does TLS and authentication. Its streams and time limits cost three more turns of the loop
for every request; here the transport's bytes go straight into the reader, and a reply is one turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Self

from redis import exceptions as driver

from locksmith_redis.resp import MORE, Reader, new_reader
from locksmith_redis.server import Endpoint


class AsyncWire(asyncio.Protocol):
    """One connection and its unread replies. Whoever gets an exception that is not a reply must `close` it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._loop = asyncio.get_running_loop()
        self._reader: Reader = new_reader()
        self._replies: deque[Any] = deque()
        self._waiter: asyncio.Future[Any] | None = None
        self._lost: driver.RedisError | None = None
        self._transport: Any = connection._writer.transport
        self._streams: Any = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @classmethod
    async def open(cls, server: Endpoint, seconds: float) -> Self:
        """Connect and authenticate, each step within so many seconds. Raises the driver's errors."""
        return cls(await server.open(seconds))

    async def ask(self, payload: bytes, seconds: float) -> Any:
        """Send a request and read its reply within so many seconds; a refusal is raised. Raises the driver's errors."""
        self.send(payload)
        reply = await self.receive(seconds)
        if isinstance(reply, driver.RedisError):
            raise reply
        return reply

    def send(self, payload: bytes) -> None:
        """Send requests. Raises the driver's errors where the connection is known to be gone."""
        if self._lost is not None:
            raise self._lost
        self._transport.write(payload)

    async def receive(self, seconds: float) -> Any:
        """The next reply; a refusal is returned. Raises the driver's errors."""
        if self._replies:
            return self._replies.popleft()
        if self._lost is not None:
            raise self._lost
        waiter = self._waiter = self._loop.create_future()
        alarm = self._loop.call_later(seconds, _ring, waiter)
        try:
            return await waiter
        finally:
            alarm.cancel()
            self._waiter = None

    async def close(self) -> None:
        """End the connection, without waiting for its end."""
        await self.connection.disconnect(nowait=True)

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not MORE:
                waiter = self._waiter
                if waiter is not None and not waiter.done():
                    waiter.set_result(reply)
                else:
                    self._replies.append(reply)
        except driver.RedisError as error:
            self._lose(error)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._lose(driver.ConnectionError(str(exc) if exc else "the server closed the connection"))
        # The driver's streams have waiters of their own for this.
        self._streams.connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol: what we send is small, and the next request waits for its reply anyway."""

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""

    def _lose(self, error: driver.RedisError) -> None:
        self._lost = self._lost or error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)


def _ring(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(driver.TimeoutError("no answer in time"))


async def connect(connection: Any, seconds: float) -> Any:
    """Connect and authenticate a connection of the driver, each step within so many seconds. Raises its errors."""
    connection.socket_timeout = connection.socket_connect_timeout = seconds
    asked = cancellations()
    try:
        await connection.connect()
        heed_cancellations(asked)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


def cancellations() -> int:
    """How many cancellations the running task was asked for so far."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def heed_cancellations(asked: int) -> None:
    """Raise CancelledError where one has arrived since `asked` and was swallowed by the driver.

    It sends with asyncio.wait_for, which drops a cancellation that arrives as the sending ends (until Python 3.12). The
    caller had been cancelled, and its acquire would have gone on to wait, without bound, for nobody.
    """
    if cancellations() > asked:
        raise asyncio.CancelledError
