"""Connections for requests, asyncio: the same rules as `link`, on the event loop that asks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from locksmith.errors import ClientClosed
from locksmith_consul.http import NotHttp, Reader, Reply
from locksmith_consul.link import DEAD, KEPT, Callback, Hook, keep_for_ever
from locksmith_consul.url import Server


class AsyncWire(asyncio.Protocol):
    """One connection and its unread bytes. Whoever gets an exception must `close` it."""

    def __init__(self) -> None:
        self._reader = Reader()
        self._answer: asyncio.Future[Reply] | None = None
        self._lost: BaseException | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            reply = self._reader.feed(data)
        except (NotHttp, ConnectionError) as error:
            self._fail(error)
        else:
            if reply is not None and self._answer is not None and not self._answer.done():
                self._answer.set_result(reply)

    def eof_received(self) -> bool:
        """See asyncio.Protocol."""
        self.data_received(b"")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._fail(exc or ConnectionResetError("the server closed the connection"))

    def _fail(self, error: BaseException) -> None:
        self._lost = self._lost or error
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def ask(self, payload: bytes, seconds: float) -> Reply:
        """Send a request and read its reply. Raises OSError and NotHttp."""
        if self._lost is not None:
            raise ConnectionResetError("the server closed the connection") from self._lost
        loop = asyncio.get_running_loop()
        self._answer = answer = loop.create_future()
        alarm = loop.call_later(seconds, _late, answer)
        self.transport.write(payload)
        try:
            reply: Reply = await answer
            return reply
        finally:
            alarm.cancel()

    def close(self) -> None:
        """End the connection, without waiting for what was not sent."""
        self.transport.abort()


def _late(answer: asyncio.Future[Reply]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError("no answer in time"))


class AsyncLink(Hook):
    """The connections of one asyncio client. They belong to the loop that opened them."""

    def __init__(self, server: Server, now: Callable[[], float]) -> None:
        super().__init__(server)
        self._now = now
        self._idle: list[AsyncWire] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def ask(self, method: str, target: str, body: bytes = b"", seconds: float | None = None) -> Reply:
        """See Hook.ask."""
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        limit = self.server.timeout if seconds is None else min(seconds, self.server.timeout)
        return await self._ask(self.payload(method, target, body), limit)

    async def wait(self, target: str, seconds: float) -> Reply:
        """The reply to a blocking query, which may take longer than a request may. Raises OSError and NotHttp."""
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        return await self._ask(self.payload("GET", target), seconds)

    async def _ask(self, payload: bytes, seconds: float) -> Reply:
        if self._idle:
            try:
                return await self._ask_on(self._idle.pop(), payload, seconds, again=False)
            except DEAD:
                self._drop_idle()
            return await self._ask_on(await self._open(seconds), payload, seconds, again=True)
        return await self._ask_on(await self._open(seconds), payload, seconds, again=False)

    async def _ask_on(self, wire: AsyncWire, payload: bytes, seconds: float, *, again: bool) -> Reply:
        since = self._now()
        try:
            reply = await wire.ask(payload, seconds)
        except BaseException:
            # Also CancelledError: the reply may come yet, and must not be taken for that of the next request.
            wire.close()
            raise
        if reply.lasts and len(self._idle) < KEPT and not self._closed:
            self._idle.append(wire)
        else:
            wire.close()
        return reply._replace(since=since, again=again)

    async def _open(self, seconds: float) -> AsyncWire:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        server = self.server
        loop = asyncio.get_running_loop()
        hostname = server.host if server.tls else None
        async with asyncio.timeout(min(seconds, server.timeout)):
            _, wire = await loop.create_connection(
                AsyncWire, server.host, server.port, ssl=server.tls, server_hostname=hostname
            )
        return wire

    def called(self, callback: Callback, reply: Any) -> Any:
        """See Hook.called: a coroutine."""

        async def answered() -> Any:
            return callback(await reply)

        return answered()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _move(self) -> None:
        """Another loop runs now: what the old one opened cannot be used here."""
        for wire in self._idle:
            abandon(wire)
        self._idle = []
        self._loop = asyncio.get_running_loop()

    async def end(self) -> None:
        """See Link.end."""
        self._closed = True
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        self._drop_idle()
        await asyncio.sleep(0)  # the loop closes the sockets in its next round

    def close(self) -> None:
        """See HTTPClient: for py-consul's `with`, which we do not use."""

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._idle)
        self._idle = []
        self._loop = None


def abandon(wire: AsyncWire) -> None:
    """End a connection of another event loop, perhaps a closed one, on which nothing can be called any more.

    The server is told. The file descriptor stays with the transport, kept so that it does not complain.
    """
    held = wire.transport.get_extra_info("socket")
    if held is not None:
        with suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)
    keep_for_ever(wire)
