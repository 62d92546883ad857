"""Connections for requests, blocking: a stack of held ones, so that threads that ask at once each have their own.

The driver's pool and its retries are not used: they send again what must not be sent twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from redis import exceptions as driver

from locksmith.errors import ClientClosed
from locksmith_redis.server import Endpoint
from locksmith_redis.wire import Wire

Answer: TypeAlias = tuple[Any, float, bool]
"""A reply; the clock, read before the request that was answered was sent; whether the request was sent twice, so that
the first one may have acted already. A plain tuple, because one is made per request.
"""

KEPT: Final = 64
"""Idle connections kept of a moment when many threads asked at once."""
_escrow: Final[list[object]] = []
"""Connections inherited by a fork, kept for ever: collecting one would speak on the parent's socket."""


class Link:
    """The connections of one blocking client."""

    def __init__(self, server: Endpoint, now: Callable[[], float]) -> None:
        self._server = server
        self._now = now
        self._idle: list[Wire] = []
        self._closed = False

    def ask(self, payload: bytes) -> Answer:
        """Send one request. Raises the driver's errors; the connection goes on after a reply, whatever it says.

        A connection that had been idle may have died unnoticed: then the request is sent again, once, on a new one.
        A timeout is not such a death.
        """
        idle = self._idle
        try:
            wire = idle.pop() if idle else None
        except IndexError:  # another thread was faster
            wire = None
        if wire is None:
            return self._ask_anew(payload, again=False)
        since = self._now()
        try:
            reply = wire.ask(payload)
        except driver.ResponseError:
            self._keep(wire)
            raise
        except driver.ConnectionError:
            wire.close()
            self.drop_idle()
        except BaseException:
            # Also KeyboardInterrupt: the reply may come yet, and must not be taken for that of the next request.
            wire.close()
            raise
        else:
            if len(self._idle) < KEPT and not self._closed:
                self._idle.append(wire)
            else:
                wire.close()
            return reply, since, False
        return self._ask_anew(payload, again=True)

    def _ask_anew(self, payload: bytes, *, again: bool) -> Answer:
        wire = self._open(self._server.timeout)
        since = self._now()
        try:
            reply = wire.ask(payload)
        except driver.ResponseError:
            self._keep(wire)
            raise
        except BaseException:
            wire.close()
            raise
        self._keep(wire)
        return reply, since, again

    def ask_all(self, payloads: list[bytes], within: float) -> list[Answer | Exception]:
        """Send requests in one write, and read what is answered within so many seconds; errors stand in their place."""
        until = time.monotonic() + within
        answers: list[Answer | Exception] = []
        try:
            wire = self._idle.pop()
        except IndexError:
            pass
        else:
            self._ask_all_on(wire, payloads, until, answers)
            if answers and not isinstance(answers[0], driver.ConnectionError):
                return answers
            self.drop_idle()
            answers.clear()
        try:
            wire = self._open(_left(until))
        except (driver.RedisError, OSError) as error:
            return [error] * len(payloads)
        self._ask_all_on(wire, payloads, until, answers)
        return answers

    def _ask_all_on(self, wire: Wire, payloads: list[bytes], until: float, answers: list[Answer | Exception]) -> None:
        try:
            wire.limit(_left(until))
            since = self._now()
            wire.send(b"".join(payloads))
            while len(answers) < len(payloads):
                wire.limit(_left(until))
                reply = wire.receive()
                answers.append(reply if isinstance(reply, Exception) else (reply, since, False))
        except (driver.RedisError, OSError) as error:
            wire.close()
            answers.extend([error] * (len(payloads) - len(answers)))
        except BaseException:
            wire.close()
            raise
        else:
            wire.limit(self._server.timeout)
            self._keep(wire)

    def _open(self, seconds: float) -> Wire:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        return Wire(self._server, min(seconds, self._server.timeout))

    def _keep(self, wire: Wire) -> None:
        if len(self._idle) < KEPT and not self._closed:
            self._idle.append(wire)
        else:
            wire.close()

    def drop_idle(self) -> None:
        """Close what is idle now; the next request finds its server anew."""
        # What killed one idle connection has killed the others too; each would cost its next user a second try.
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        self._closed = True
        self.drop_idle()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._idle)
        self._idle = []


def keep_for_ever(what: object) -> None:
    """Never let go of this, so that nothing closes it."""
    _escrow.append(what)


def _left(until: float) -> float:
    return max(0.001, until - time.monotonic())
