"""Connections to whichever server is the primary now, as sentinels tell it and as that server confirms.

The steps are those of the Redis documentation ("Guidelines for Redis clients with support for Redis Sentinel"): ask the
sentinels in turn, put the one that answered first, connect, and believe nothing until the server's own ROLE says so.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from redis import exceptions as driver

from locksmith.runtime import Runtime, drive
from locksmith_redis.scripts import request
from locksmith_redis.server import Server, shown

Place = tuple[str, int]

_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.25
_SHARE: Final = 0.1
"""Seconds that each sentinel is given at least, however many are silent."""


class Primary:
    """An endpoint that follows fail-overs: each new connection asks the sentinels anew."""

    def __init__(self, sentinels: Sequence[Server], data: Server, name: str, runtime: Runtime) -> None:
        self._sentinels = list(sentinels)
        self._data = data
        self._name = name
        self._runtime = runtime
        self.timeout = data.timeout
        hosts = shown([(each.settings["host"], each.settings["port"]) for each in sentinels])
        scheme = "rediss" if "SSL" in data.connection_class.__name__ else "redis"
        self.address = f"{scheme}+sentinel://{hosts}/{name}/{data.settings.get('db') or 0}"
        self.place: Place | None = None
        """Where the primary was when it was last asked about."""
        self.moved: Callable[[], Coroutine[Any, Any, None]] | None = None
        """Called (and awaited) when another server has become the primary."""

    def open(self, seconds: float) -> Any:
        """See Endpoint.open. While a fail-over is under way this goes on asking, for as long as `seconds`."""
        return self._open_heeding(seconds) if self._runtime.is_async else drive(self._open(seconds))

    async def _open_heeding(self, seconds: float) -> Any:
        from locksmith_redis.wire_async import cancellations, heed_cancellations

        asked = cancellations()
        connection = await self._open(seconds)
        try:
            heed_cancellations(asked)
        except BaseException:
            await self._end(connection)
            raise
        return connection

    async def _open(self, seconds: float) -> Any:
        now = self._runtime.clock.now
        until = now() + seconds
        pause = _PAUSE
        while True:
            place, failure = await self._ask_around(until)
            if place is not None:
                # Not all the time there is: this one may be frozen, and soon be replaced.
                connection, failure = await self._connect(place, max(_SHARE, min(until - now(), seconds / 4)))
                if connection is not None:
                    await self._arrive(place, connection)
                    return connection
            # Only where some sentinel names a primary is there something to wait for.
            if place is None or now() + pause >= until:
                raise failure
            await self._runtime.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _ask_around(self, until: float) -> tuple[Place | None, Exception]:
        """What the first sentinel says that answers; else why the last one did not."""
        failure: Exception = driver.ConnectionError("no sentinel answers")
        for sentinel in list(self._sentinels):
            left = until - self._runtime.clock.now()
            try:
                found = await self.ask(sentinel, max(_SHARE, left / len(self._sentinels)))
            except (driver.RedisError, OSError) as error:
                failure = error
                continue
            if found is None:
                failure = driver.ConnectionError(f"the sentinels know no primary called {self._name!r}")
                continue
            self._sentinels = [sentinel, *(other for other in self._sentinels if other is not sentinel)]
            return found, failure
        return None, failure

    async def ask(self, sentinel: Server, seconds: float) -> Place | None:
        """Where a sentinel says the primary is; None where it knows none of this name. Raises the driver's errors."""
        connection = await self._runtime.settle(sentinel.open(seconds))
        try:
            found = await self._say(connection, b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._name.encode())
        finally:
            await self._end(connection)
        return None if found is None else (found[0].decode(), int(found[1]))

    async def _connect(self, place: Place, seconds: float) -> tuple[Any, Exception]:
        """A connection to the primary at this place; or why there is none, which may pass. Raises what will not."""
        try:
            connection = await self._runtime.settle(self._data.at(*place).open(seconds))
        except driver.AuthenticationError:
            raise
        except (driver.RedisError, OSError) as error:
            return None, error
        try:
            role = await self._say(connection, b"ROLE")
            if role[0] == b"master":
                return connection, driver.ConnectionError("")
            failure: Exception = driver.ConnectionError(f"{place[0]}:{place[1]} is not the primary yet, or no longer")
        except (driver.ResponseError, driver.AuthenticationError) as error:
            await self._end(connection)
            if "LOADING" not in str(error):
                raise
            return None, error
        except (driver.RedisError, OSError) as error:
            failure = error
        except BaseException:
            await self._end(connection)
            raise
        await self._end(connection)
        return None, failure

    async def _arrive(self, place: Place, connection: Any) -> None:
        before, self.place = self.place, place
        if before not in (None, place) and self.moved is not None:
            try:
                await self.moved()
            except BaseException:
                await self._end(connection)
                raise

    async def _say(self, connection: Any, *words: bytes) -> Any:
        settle = self._runtime.settle
        await settle(connection.send_packed_command([request(*words)], False))
        return await settle(connection.read_response(True))

    async def _end(self, connection: Any) -> None:
        if self._runtime.is_async:
            await connection.disconnect(nowait=True)
        else:
            connection.disconnect()

    async def reachable(self, seconds: float) -> list[Server]:
        """The sentinels that answer."""
        found = []
        for sentinel in list(self._sentinels):
            try:
                await self.ask(sentinel, seconds)
            except (driver.RedisError, OSError):
                continue
            found.append(sentinel)
        return found

    @property
    def sentinels(self) -> int:
        """How many sentinels we were told of."""
        return len(self._sentinels)
