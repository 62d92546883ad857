"""Connections for requests, asyncio: the same rules as `link`, on the event loop that asks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis import exceptions as driver

from locksmith.errors import ClientClosed
from locksmith_redis.link import KEPT, Answer, keep_for_ever, unsent
from locksmith_redis.server import Endpoint
from locksmith_redis.wire_async import AsyncWire


class AsyncLink:
    """The connections of one asyncio client. They belong to the loop that opened them."""

    def __init__(self, server: Endpoint, now: Callable[[], float]) -> None:
        self._server = server
        self._timeout = server.timeout
        self._now = now
        self._idle: list[AsyncWire] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._most = KEPT
        self._closed = False

    async def ask(self, payload: bytes) -> Answer:
        """See Link.ask."""
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        wire = self._idle.pop() if self._idle else None
        if wire is None:
            return await self._ask_anew(payload, again=False)
        since = self._now()
        try:
            reply = await wire.ask(payload, self._timeout)
        except driver.ResponseError:
            await self._keep(wire)
            raise
        except driver.ConnectionError:
            await _end(wire)
            await self.drop_idle()
        except BaseException:
            # Also CancelledError: the reply may come yet, and must not be taken for that of the next request.
            await _end(wire)
            raise
        else:
            if len(self._idle) < self._most:
                self._idle.append(wire)
            else:
                await _end(wire)
            return reply, since, False
        return await self._ask_anew(payload, again=True)

    async def _ask_anew(self, payload: bytes, *, again: bool) -> Answer:
        wire = await self._open(self._timeout)
        since = self._now()
        try:
            reply = await wire.ask(payload, self._timeout)
        except driver.ResponseError:
            await self._keep(wire)
            raise
        except BaseException:
            await _end(wire)
            raise
        await self._keep(wire)
        return reply, since, again

    async def ask_all(self, payloads: list[bytes], within: float) -> list[Answer | Exception]:
        """See Link.ask_all."""
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        until = self._now() + within
        answers: list[Answer | Exception] = []
        again = bool(self._idle)
        if again:
            await self._ask_all_on(self._idle.pop(), payloads, until, answers)
            if answers and not isinstance(answers[0], driver.ConnectionError):
                return answers
            await self.drop_idle()
            answers.clear()
        try:
            wire = await self._open(self._left(until))
        except (driver.RedisError, OSError) as error:
            return [error if again else unsent(error)] * len(payloads)
        await self._ask_all_on(wire, payloads, until, answers)
        return [each if isinstance(each, Exception) else (*each[:2], again) for each in answers]

    async def _ask_all_on(
        self, wire: AsyncWire, payloads: list[bytes], until: float, answers: list[Answer | Exception]
    ) -> None:
        try:
            since = self._now()
            wire.send(b"".join(payloads))
            while len(answers) < len(payloads):
                reply = await wire.receive(self._left(until))
                answers.append(reply if isinstance(reply, Exception) else (reply, since, False))
        except (driver.RedisError, OSError) as error:
            await _end(wire)
            answers.extend([error] * (len(payloads) - len(answers)))
        except BaseException:
            await _end(wire)
            raise
        else:
            await self._keep(wire)

    async def _open(self, seconds: float) -> AsyncWire:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        return await AsyncWire.open(self._server, min(seconds, self._timeout))

    async def _keep(self, wire: AsyncWire) -> None:
        if len(self._idle) < self._most:
            self._idle.append(wire)
        else:
            await _end(wire)

    async def retire(self) -> None:
        """See Link.retire."""
        self._most = 0
        await self.drop_idle()

    async def drop_idle(self) -> None:
        """See Link.drop_idle."""
        # What killed one idle connection has killed the others too; each would cost its next user a second try.
        while self._idle:
            await _end(self._idle.pop())

    def _left(self, until: float) -> float:
        return max(0.001, until - self._now())

    def _move(self) -> None:
        """Another loop runs now: what the old one opened cannot be used here."""
        for wire in self._idle:
            abandon(wire.connection)
        self._idle = []
        self._loop = asyncio.get_running_loop()

    def refuse(self) -> None:
        """See Link.refuse."""
        self._closed = True
        self._most = 0

    async def close(self) -> None:
        """See Link.close."""
        self.refuse()
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        while self._idle:
            with suppress(Exception):
                await self._idle.pop().connection.disconnect()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._idle)
        self._idle = []
        self._loop = None


async def ask_each(asks: Sequence[tuple[AsyncLink, list[bytes]]], within: float) -> list[list[Answer | Exception]]:
    """See link.ask_each."""
    return await asyncio.gather(*(link.ask_all(payloads, within) for link, payloads in asks))


async def _end(wire: AsyncWire) -> None:
    with suppress(Exception):
        await wire.close()


def abandon(connection: Any) -> None:
    """End a connection of another event loop, perhaps a closed one, on which nothing can be called any more.

    The server is told. The file descriptor stays with the driver's objects, kept so that they do not complain.
    """
    writer = getattr(connection, "_writer", None)
    held = writer.get_extra_info("socket") if writer is not None else None
    if held is not None:
        with suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)
    keep_for_ever(connection)
