"""Connections for requests: a stack of held ones, so that threads or tasks that ask at once each have their own.

Written once for both runtimes: what a wire returns is settled by the runtime. No pool of SQLAlchemy's is between us and
the driver: it would check, reset and roll back at every return, which costs more than a request.
"""

from __future__ import annotations

import random
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from locksmith.errors import ClientClosed, StoreError, StoreProtocolError, StoreUnavailable
from locksmith.runtime import Event, Runtime
from locksmith_sql.mysql.errors import DEADLOCK, answered, clean, code_of, translate, undone
from locksmith_sql.mysql.url import Server
from locksmith_sql.mysql.wire import Reply

_escrow: Final[list[object]] = []
"""Connections inherited by a fork, kept for ever: collecting one would speak on the parent's socket."""
_FIRST_PAUSE: Final = 0.002
_LAST_PAUSE: Final = 0.05
_OLDEST: Final = {"MariaDB": (10, 5), "MySQL": (8, 0, 19)}


class Answer(NamedTuple):
    """A reply; the clock, read before the request that was answered was sent; whether another one went before it; and
    the connection that it came by.
    """

    reply: Reply
    since: float
    again: bool
    wire: Any


class Link:
    """The connections of one client."""

    def __init__(self, server: Server, runtime: Runtime) -> None:
        self.server = server
        self.runtime = runtime
        self._now = self.now = runtime.clock.now
        self.closed = False
        if runtime.is_async:
            from locksmith_sql.mysql.wire_async import AsyncWire

            self._wire: Callable[[Any], Any] = AsyncWire
        else:
            from locksmith_sql.mysql.wire import Wire

            self._wire = Wire
        self.fresh()

    def fresh(self) -> None:
        """Start without connections. In a forked child those of its parent are kept as they are."""
        if getattr(self, "_all", None):
            _escrow.append(self._all)
        self.client = secrets.token_hex(8)
        self._mutex = threading.Lock()
        self._all: set[Any] = set()
        self._idle: list[Any] = []
        # A beat may have one more.
        self._free = self.server.connections
        self._turns: deque[Event] = deque()

    async def ask(
        self,
        text: str,
        values: tuple[object, ...] = (),
        *,
        within: float | None = None,
        repeat: bool = True,
        by: Any = None,
    ) -> Answer:
        """Send one statement. Raises StoreError.

        A connection that had been idle may have died unnoticed: then the request is sent again, once, on a new one,
        unless it was perhaps carried out and may not be `repeat`ed. A timeout is not such a death. Deadlocks are tried
        again as long as there is time. `within` is for beats, which never wait for a connection; `by` is the connection
        to be used if it is idle.
        """
        until = self._now() + (self.server.timeout if within is None else within)
        if within is None:
            await self._enter(until)
        try:
            return await self._ask(text, values, until, repeat=repeat, by=by)
        finally:
            if within is None:
                self._leave()

    async def _ask(self, text: str, values: tuple[object, ...], until: float, *, repeat: bool, by: Any) -> Answer:
        again = False
        pause = _FIRST_PAUSE
        while True:
            wire = self._take(by)
            known = wire is not None
            if wire is None:
                wire = await self.open(until)
            since = self._now()
            try:
                reply = await self.runtime.settle(wire.ask(text, values, self._left(until)))
            except wire.errors as error:
                if answered(error):
                    if clean(error):
                        await self._keep(wire)
                    else:
                        self.abort(wire)
                    if code_of(error) in DEADLOCK and self._now() + pause < until:
                        await self.runtime.sleep(pause * random.uniform(0.5, 1.5))
                        pause = min(pause * 2, _LAST_PAUSE)
                        continue
                else:
                    self.abort(wire)
                    if known and not isinstance(error, TimeoutError) and self._now() < until and not _timed_out(error):
                        self._drop_idle()
                        if undone(error) or repeat:
                            again = again or not undone(error)
                            continue
                raise translate(error) from error
            except BaseException:
                # The answer may come yet, and must not be taken for that of the next request.
                self.abort(wire)
                raise
            await self._keep(wire)
            return Answer(reply, since, again, wire)

    async def open(self, until: float) -> Any:
        """A new connection, set up. Raises StoreError."""
        if self.closed:
            raise ClientClosed("this store was closed: connect again")
        wire = None
        try:
            raw = await self._opened(self._left(until))
            wire = self._wire(raw)
            self._all.add(wire)
            if self.server.tls and not wire.encrypted():
                raise StoreProtocolError("this server does not speak TLS: take the TLS options out of the URL")
            await self._set_up(wire, until)
        except StoreError:
            self.abort(wire)
            raise
        except Exception as error:  # a stranger behind the port makes drivers stumble in any way
            self.abort(wire)
            raise translate(error) from error
        except BaseException:
            self.abort(wire)
            raise
        return wire

    async def _opened(self, seconds: float) -> Any:
        if not self.runtime.is_async:
            return self.server.open(seconds)
        import asyncio

        async with asyncio.timeout(seconds):
            return await self.server.open(seconds)

    async def _set_up(self, wire: Any, until: float) -> None:
        """What every session of ours needs; none of it is left to the server's or the user's defaults."""
        limit = max(1, int(self.server.timeout))
        mode = "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', autocommit = 1"
        for text in (
            f"SET SESSION {mode}, innodb_lock_wait_timeout = {limit}",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        ):
            await self.runtime.settle(wire.ask(text, (), self._left(until)))
        charset = getattr(wire.raw, "charset", "utf8mb4")
        if not str(charset).startswith("utf8mb4"):
            raise StoreProtocolError(f"this engine's connections speak {charset}: make it with charset=utf8mb4")
        if self._version is None:
            reply = await self.runtime.settle(wire.ask("SELECT VERSION()", (), self._left(until)))
            self._version = checked_version(str(reply.rows[0][0]))

    _version: str | None = None

    def _take(self, wanted: Any = None) -> Any | None:
        if wanted is not None and self._pick(wanted):
            return wanted
        while True:
            try:
                wire = self._idle.pop()
            except IndexError:
                return None
            if wire.ready():
                return wire
            self.abort(wire)

    def _pick(self, wire: Any) -> bool:
        """Take this very connection, if it is idle and lives."""
        try:
            self._idle.remove(wire)
        except ValueError:
            return False
        if not wire.ready():
            self.abort(wire)
            return False
        return True

    async def owe(self, wire: Any, text: str, value: str) -> None:
        """Have something said on this very connection: now if it is idle, else when it comes back."""
        wire.owed.append((text, value))
        if self._pick(wire):
            await self._keep(wire)

    async def _keep(self, wire: Any) -> None:
        while wire.owed:
            text, value = wire.owed.pop()
            try:
                await self.runtime.settle(wire.ask(text, (value,), self.server.timeout))
            except wire.errors:
                self.abort(wire)
                return
            except BaseException:
                self.abort(wire)
                raise
        if self.closed or len(self._idle) > self.server.connections:
            await self.end(wire)
        else:
            self._idle.append(wire)

    async def end(self, wire: Any) -> None:
        """Close a connection politely."""
        self._all.discard(wire)
        try:
            await self.runtime.settle(wire.close())
        except Exception:  # noqa: BLE001 - it ends either way
            wire.abort()

    def abort(self, wire: Any | None) -> None:
        """Close a connection that nobody can use any more."""
        if wire is not None:
            self._all.discard(wire)
            wire.abort()

    def _drop_idle(self) -> None:
        # What killed one idle connection has killed the others too; each would cost its next user a second try.
        while self._idle:
            try:
                self.abort(self._idle.pop())
            except IndexError:
                return

    def _left(self, until: float) -> float:
        left = until - self._now()
        # The same number again and again, where it is about that: a socket's time limit costs two calls to change.
        most = self.server.timeout
        return most if 0.99 * most < left <= most else max(0.001, left)

    async def _enter(self, until: float) -> None:
        with self._mutex:
            if self._free > 0:
                self._free -= 1
                return
            turn = self.runtime.event()
            self._turns.append(turn)
        came = False
        try:
            came = await turn.wait(self._left(until))
        finally:
            if not came:
                self._give_up(turn)
        if not came:
            most = self.server.connections
            raise StoreUnavailable(
                f"all {most} connections of this client are busy: try again, or raise the option connections"
            )

    def _give_up(self, turn: Event) -> None:
        with self._mutex:
            if turn in self._turns:
                self._turns.remove(turn)
                return
        self._leave()  # it was our turn in the very moment in which we gave up

    def _leave(self) -> None:
        with self._mutex:
            if self._turns:
                self._turns.popleft().set()
            else:
                self._free += 1

    async def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        self.closed = True
        while self._idle:
            await self.end(self._idle.pop())


def _timed_out(error: BaseException) -> bool:
    return "timed out" in str(error)


def checked_version(said: str) -> str:
    """The server's version as people write it. Raises StoreProtocolError where it is too old."""
    found = re.search(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)", said)
    kind = "MariaDB" if "mariadb" in said.lower() else "MySQL"
    oldest = _OLDEST[kind]
    numbers = tuple(int(part) for part in found.groups()) if found else ()
    if numbers < oldest:
        wanted = ".".join(str(part) for part in oldest)
        raise StoreProtocolError(f"{kind} {said} is too old: {wanted} or later is needed")
    return f"{kind} {'.'.join(str(part) for part in numbers)}"
