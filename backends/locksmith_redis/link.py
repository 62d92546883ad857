"""Connections for requests, blocking: a stack of held ones, so that threads that ask at once each have their own.

The driver's client is not used for requests: its pool, retries and bookkeeping cost more than half of a small request,
and its retries send again what must not be sent twice. Its connections do what is hard: TLS, authentication, parsing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from redis import exceptions as driver

from locksmith.errors import ClientClosed
from locksmith_redis.url import Server

_escrow: Final[list[object]] = []
"""Connections inherited by a fork, kept for ever: collecting one would speak on the parent's socket."""


class Answer(NamedTuple):
    """A reply, and what must be known to believe in it."""

    reply: Any
    since: float
    """The clock, read before the request that was answered was sent."""
    again: bool
    """Whether the request was sent twice, so that the first may have acted already."""


class Link:
    """The connections of one blocking client."""

    def __init__(self, server: Server, now: Callable[[], float]) -> None:
        self._server = server
        self._now = now
        self._idle: list[Any] = []
        self._closed = False

    async def ask(self, payload: bytes) -> Answer:
        """Send one request. Raises the driver's errors; the connection goes on after a reply, whatever it says.

        A connection that had been idle may have died unnoticed: then the request is sent again, once, on a new one.
        A timeout is not such a death.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            return await self._ask_anew(payload, again=False)
        since = self._now()
        try:
            connection.send_packed_command((payload,), False)
            reply = connection.read_response(True)
        except driver.ResponseError:
            self._keep(connection)
            raise
        except driver.ConnectionError:
            connection.disconnect()
            self._drop_idle()
        except BaseException:
            # Also KeyboardInterrupt: the reply may come yet, and must not be taken for that of the next request.
            connection.disconnect()
            raise
        else:
            self._keep(connection)
            return Answer(reply, since, again=False)
        return await self._ask_anew(payload, again=True)

    async def _ask_anew(self, payload: bytes, *, again: bool) -> Answer:
        connection = self._connection()
        try:
            connection.connect()
            since = self._now()
            connection.send_packed_command((payload,), False)
            reply = connection.read_response(True)
        except driver.ResponseError:
            self._keep(connection)
            raise
        except BaseException:
            connection.disconnect()
            raise
        self._keep(connection)
        return Answer(reply, since, again)

    async def ask_all(self, payloads: list[bytes], within: float) -> list[Answer | Exception]:
        """Send requests in one write, and read what is answered within so many seconds; errors stand in their place."""
        until = time.monotonic() + within
        answers: list[Answer | Exception] = []
        pooled = bool(self._idle)
        connection = self._idle.pop() if pooled else self._connection()
        try:
            self._all(connection, payloads, until, answers)
            if not answers and pooled:
                self._drop_idle()
                connection = self._connection()
                self._all(connection, payloads, until, answers)
        except BaseException:
            connection.disconnect()
            raise
        if len(answers) == len(payloads) and connection.is_connected:
            self._limit(connection, self._server.timeout)
            self._keep(connection)
        return answers

    def _all(self, connection: Any, payloads: list[bytes], until: float, answers: list[Answer | Exception]) -> None:
        """Fill `answers`; leaves them empty where an idle connection turned out to be dead."""
        pooled = connection.is_connected
        try:
            self._limit(connection, until - time.monotonic())
            connection.connect()
            since = self._now()
            self._limit(connection, until - time.monotonic())
            connection.send_packed_command((b"".join(payloads),), False)
            while len(answers) < len(payloads):
                self._limit(connection, until - time.monotonic())
                try:
                    answers.append(Answer(connection.read_response(True), since, again=False))
                except driver.ResponseError as refusal:
                    answers.append(refusal)
        except (driver.RedisError, OSError) as error:
            connection.disconnect()
            if pooled and not answers and isinstance(error, driver.ConnectionError):
                return
            answers.extend([error] * (len(payloads) - len(answers)))

    def _limit(self, connection: Any, seconds: float) -> None:
        seconds = max(0.001, min(seconds, self._server.timeout))
        connection.socket_timeout = connection.socket_connect_timeout = seconds
        if connection._sock is not None:
            connection._sock.settimeout(seconds)

    def _connection(self) -> Any:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        return self._server.connection()

    def _keep(self, connection: Any) -> None:
        if self._closed:
            connection.disconnect()
        else:
            self._idle.append(connection)

    def _drop_idle(self) -> None:
        # What killed one idle connection has killed the others too; each would cost its next user a second try.
        while self._idle:
            try:
                self._idle.pop().disconnect()
            except IndexError:
                return

    async def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        self._closed = True
        self._drop_idle()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._idle)
        self._idle = []


def keep_for_ever(what: object) -> None:
    """Never let go of this, so that nothing closes it."""
    _escrow.append(what)
