"""Connections for requests, blocking: a stack of held ones, so that threads that ask at once each have their own.

The driver's pool and its retries are not used: they send again what must not be sent twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
        self.now = now
        self._idle: list[Wire] = []
        self._most = KEPT
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
        since = self.now()
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
            if len(self._idle) < self._most:
                self._idle.append(wire)
            else:
                wire.close()
            return reply, since, False
        return self._ask_anew(payload, again=True)

    def _ask_anew(self, payload: bytes, *, again: bool) -> Answer:
        wire = self._open(self._server.timeout)
        since = self.now()
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
        again = False
        try:
            wire = self._idle.pop()
        except IndexError:
            pass
        else:
            again = True
            self._ask_all_on(wire, payloads, until, answers)
            if answers and not isinstance(answers[0], driver.ConnectionError):
                return answers
            self.drop_idle()
            answers.clear()
        try:
            wire = self._open(_left(until))
        except (driver.RedisError, OSError) as error:
            return [error if again else unsent(error)] * len(payloads)
        self._ask_all_on(wire, payloads, until, answers)
        return [(*each[:2], True) if again and isinstance(each, tuple) else each for each in answers]

    @property
    def ready(self) -> bool:
        """Whether a request would need no new connection."""
        return bool(self._idle)

    def begin(self, payloads: list[bytes], until: float, *, anew: bool = False) -> Wire | Exception:
        """Send requests whose replies `finish` reads; or why they could not be sent. Takes an idle connection unless
        `anew`; `until` as `time.monotonic` counts.
        """
        try:
            wire = self._take(anew) or self._open(_left(until) / 2)
        except (driver.RedisError, OSError) as error:
            return unsent(error)
        try:
            wire.limit(_left(until))
            wire.send(b"".join(payloads))
        except (driver.RedisError, OSError) as error:
            wire.close()
            return error
        except BaseException:
            wire.close()
            raise
        return wire

    def _take(self, anew: bool) -> Wire | None:
        try:
            return None if anew else self._idle.pop()
        except IndexError:
            return None

    def finish(self, wire: Wire, since: float, count: int, until: float) -> list[Answer | Exception]:
        """Read so many replies to what was sent at `since`; errors stand in their place."""
        answers: list[Answer | Exception] = []
        self._read_all(wire, since, count, until, answers)
        return answers

    def _ask_all_on(self, wire: Wire, payloads: list[bytes], until: float, answers: list[Answer | Exception]) -> None:
        try:
            wire.limit(_left(until))
            since = self.now()
            wire.send(b"".join(payloads))
        except (driver.RedisError, OSError) as error:
            wire.close()
            answers.extend([error] * len(payloads))
        except BaseException:
            wire.close()
            raise
        else:
            self._read_all(wire, since, len(payloads), until, answers)

    def _read_all(self, wire: Wire, since: float, count: int, until: float, answers: list[Answer | Exception]) -> None:
        try:
            while len(answers) < count:
                wire.limit(_left(until))
                reply = wire.receive()
                answers.append(reply if isinstance(reply, Exception) else (reply, since, False))
        except (driver.RedisError, OSError) as error:
            wire.close()
            answers.extend([error] * (count - len(answers)))
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
        if len(self._idle) < self._most:
            self._idle.append(wire)
        else:
            wire.close()

    def retire(self) -> None:
        """Keep nothing any more: requests under way are answered, and then their connections are closed."""
        self._most = 0
        self.drop_idle()

    def refuse(self) -> None:
        """Refuse requests from now on."""
        self._closed = True
        self._most = 0

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
        self.refuse()
        self.drop_idle()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._idle)
        self._idle = []


def unsent(error: Exception) -> Exception:
    """An error that came before anything was sent: nothing was done, nor will be."""
    vars(error)["unsent"] = True
    return error


def was_sent(error: object) -> bool:
    """Whether a request that ended with this error may have been acted upon."""
    return not getattr(error, "unsent", False)


def ask_each(asks: Sequence[tuple[Link, list[bytes]]], within: float) -> list[list[Answer | Exception]]:
    """Send to each of several servers, then read from each: one that is silent does not cost the others their time."""
    until = time.monotonic() + within
    answers = _ask_each(asks, until, anew=False)
    broken = [at for at, each in enumerate(answers) if isinstance(each[0], driver.ConnectionError)]
    if broken:  # they had been idle, and may have died unnoticed; see Link.ask
        for at in broken:
            asks[at][0].drop_idle()
        for at, each in zip(broken, _ask_each([asks[at] for at in broken], until, anew=True), strict=True):
            if isinstance(each[0], Exception) and was_sent(answers[at][0]):
                vars(each[0]).pop("unsent", None)  # this time nothing was, but before
            answers[at] = [answer if isinstance(answer, Exception) else (*answer[:2], True) for answer in each]
    return answers


def _ask_each(asks: Sequence[tuple[Link, list[bytes]]], until: float, *, anew: bool) -> list[list[Answer | Exception]]:
    sent: dict[int, tuple[float, Wire | Exception]] = {}
    try:
        # First those that need no new connection, which a silent server would keep us waiting for.
        for at in sorted(range(len(asks)), key=lambda at: not asks[at][0].ready):
            link, payloads = asks[at]
            sent[at] = link.now(), link.begin(payloads, until, anew=anew)
        return _read_each(asks, sent, until)
    except BaseException:
        # Also KeyboardInterrupt: replies that nobody has read must not be taken for those of the next requests.
        for _, wire in sent.values():
            if not isinstance(wire, Exception):
                wire.close()
        raise


def _read_each(
    asks: Sequence[tuple[Link, list[bytes]]], sent: dict[int, tuple[float, Wire | Exception]], until: float
) -> list[list[Answer | Exception]]:
    answers: list[list[Answer | Exception]] = []
    for at, (link, payloads) in enumerate(asks):
        since, wire = sent.pop(at)
        if isinstance(wire, Exception):
            answers.append([wire] * len(payloads))
        else:
            answers.append(link.finish(wire, since, len(payloads), until))
    return answers


def keep_for_ever(what: object) -> None:
    """Never let go of this, so that nothing closes it."""
    _escrow.append(what)


def _left(until: float) -> float:
    return max(0.001, until - time.monotonic())
