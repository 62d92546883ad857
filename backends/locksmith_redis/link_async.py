"""Connections for requests, asyncio: the same rules as `link`, on the event loop that asks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import exceptions as driver

from locksmith.errors import ClientClosed
from locksmith_redis.link import Answer, keep_for_ever
from locksmith_redis.url import Server


class AsyncLink:
    """The connections of one asyncio client. They belong to the loop that opened them."""

    def __init__(self, server: Server, now: Callable[[], float]) -> None:
        self._server = server
        self._now = now
        self._idle: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def ask(self, payload: bytes) -> Answer:
        """See Link.ask."""
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        try:
            connection = self._idle.pop()
        except IndexError:
            return await self._ask_anew(payload, again=False)
        since = self._now()
        try:
            await connection.send_packed_command(payload, False)
            reply = await connection.read_response(True)
        except driver.ResponseError:
            await self._keep(connection)
            raise
        except driver.ConnectionError:
            await self._end(connection)
            await self._drop_idle()
        except BaseException:
            # Also CancelledError: the reply may come yet, and must not be taken for that of the next request.
            await self._end(connection)
            raise
        else:
            await self._keep(connection)
            return reply, since, False
        return await self._ask_anew(payload, again=True)

    async def _ask_anew(self, payload: bytes, *, again: bool) -> Answer:
        connection = self._connection()
        try:
            await connection.connect()
            since = self._now()
            await connection.send_packed_command(payload, False)
            reply = await connection.read_response(True)
        except driver.ResponseError:
            await self._keep(connection)
            raise
        except BaseException:
            await self._end(connection)
            raise
        await self._keep(connection)
        return reply, since, again

    async def ask_all(self, payloads: list[bytes], within: float) -> list[Answer | Exception]:
        """See Link.ask_all."""
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        answers: list[Answer | Exception] = []
        try:
            async with asyncio.timeout(within):
                await self._all(payloads, answers)
        except TimeoutError:
            error = driver.TimeoutError(f"no answer within {within:g} s")
            answers.extend([error] * (len(payloads) - len(answers)))
        return answers

    async def _all(self, payloads: list[bytes], answers: list[Answer | Exception]) -> None:
        pooled = bool(self._idle)
        connection = self._idle.pop() if pooled else self._connection()
        try:
            await self._read_all(connection, payloads, answers)
            if pooled and not answers:
                await self._drop_idle()
                connection = self._connection()
                await self._read_all(connection, payloads, answers)
        except BaseException:
            await self._end(connection)
            raise
        if connection.is_connected:
            await self._keep(connection)

    async def _read_all(self, connection: Any, payloads: list[bytes], answers: list[Answer | Exception]) -> None:
        pooled = connection.is_connected
        try:
            await connection.connect()
            since = self._now()
            await connection.send_packed_command(b"".join(payloads), False)
            while len(answers) < len(payloads):
                try:
                    answers.append((await connection.read_response(True), since, False))
                except driver.ResponseError as refusal:
                    answers.append(refusal)
        except (driver.RedisError, OSError) as error:
            await self._end(connection)
            if pooled and not answers and isinstance(error, driver.ConnectionError):
                return
            answers.extend([error] * (len(payloads) - len(answers)))

    def _connection(self) -> Any:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        return self._server.connection()

    async def _keep(self, connection: Any) -> None:
        if self._closed:
            await self._end(connection)
        else:
            self._idle.append(connection)

    async def _end(self, connection: Any) -> None:
        with suppress(Exception):
            await connection.disconnect(nowait=True)

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._end(self._idle.pop())

    def _move(self) -> None:
        """Another loop runs now: what the old one opened cannot be used here."""
        for connection in self._idle:
            abandon(connection)
        self._idle = []
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """See Link.close."""
        self._closed = True
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        while self._idle:
            with suppress(Exception):
                await self._idle.pop().disconnect()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._idle)
        self._idle = []
        self._loop = None


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
