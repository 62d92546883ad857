"""The asyncio face: a thin mirror of `locksmith.client`, with the same method names and parameters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, overload

from locksmith.connecting import Settings, settle
from locksmith.engine.core import Engine
from locksmith.errors import AcquireTimeout
from locksmith.events import Hook, add_hook, remove_hook
from locksmith.leases_aio import Acquisition, AsyncLease, AsyncLostSignal
from locksmith.recipes.permits import ALL, Permits, check_wait
from locksmith.runtime import Clock
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Finding, Guarantee, Inspection

if TYPE_CHECKING:
    from locksmith.cells_aio import AsyncCell
    from locksmith.elections_aio import AsyncElection, AsyncLeadership
    from locksmith.multilocks_aio import AsyncMultiLease, AsyncMultiLock
    from locksmith.rates_aio import AsyncRateLimit

__all__ = [
    "Acquisition",
    "AsyncCell",
    "AsyncClient",
    "AsyncElection",
    "AsyncLeadership",
    "AsyncLease",
    "AsyncLock",
    "AsyncLostSignal",
    "AsyncMultiLease",
    "AsyncMultiLock",
    "AsyncRWLock",
    "AsyncRateLimit",
    "AsyncSemaphore",
    "connect",
]


class AsyncLock:
    """A name with settings: stateless, cheap, to be shared between tasks. Each acquisition is a lease of its own."""

    __slots__ = ("_engine", "_permits")

    def __init__(self, engine: Engine, permits: Permits) -> None:
        self._engine = engine
        self._permits = permits

    @property
    def name(self) -> str:
        """The name this locks."""
        return self._permits.name

    def acquire(
        self,
        *,
        wait: float | None = None,
        permits: int = 1,
        note: str | None = None,
        max_hold: float | None = None,
        cancel_on_loss: bool = False,
    ) -> Acquisition[AsyncLease]:
        """A lease, after standing in line for at most `wait` seconds (None: without bound, 0: one try).

        `await` the result, or use it in an `async with`. `note` is shown to people who list holders. `max_hold`:
        seconds after which the lease ends even if renewed. `cancel_on_loss` cancels the task that acquired when the
        lease is lost; an `async with` then raises LeaseLost.
        Raises AcquireTimeout, SelfDeadlock, SettingsConflict, StoreError, ConfigurationError, ClientClosed.
        """
        patience = check_wait(wait)

        async def acquire() -> AsyncLease:
            # A claim is one attempt: made here, so that awaiting twice does not share an owner.
            claim = self._permits.claim(permits, note, max_hold)
            hold = await self._take(claim, patience, max_hold)
            if hold is None:
                raise AcquireTimeout(f"{self.name!r} was not free within {wait} s: nothing is held; try again later")
            return AsyncLease(self._engine, hold, asyncio.current_task() if cancel_on_loss else None)

        return Acquisition(acquire)

    async def try_acquire(
        self, *, permits: int = 1, note: str | None = None, max_hold: float | None = None
    ) -> AsyncLease | None:
        """A lease, or None where somebody has the name or waits for it. One request. Raises as `acquire` does."""
        hold = await self._take(self._permits.claim(permits, note, max_hold), 0.0, max_hold)
        return None if hold is None else AsyncLease(self._engine, hold)

    async def _take(self, claim: Any, wait: float | None, max_hold: float | None) -> Any:
        acquire = self._engine.acquire_strictly if self._permits.strict_ttl else self._engine.acquire
        return await acquire(claim, wait, max_hold)

    def __enter__(self) -> NoReturn:
        raise TypeError("a lock is only a name: write `async with lock.acquire() as lease:`")

    def __exit__(self, *exc: object) -> None: ...

    async def __aenter__(self) -> NoReturn:
        raise TypeError("a lock is only a name: write `async with lock.acquire() as lease:`")

    async def __aexit__(self, *exc: object) -> None: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self._engine.store.address}>"


class AsyncSemaphore(AsyncLock):
    """Permits out of a limit; `acquire(permits=n)` takes n of them at once."""

    __slots__ = ()


class AsyncRWLock:
    """Many readers or one writer, in the order in which they came: writers do not starve."""

    __slots__ = ("_read", "_write")

    def __init__(self, read: AsyncLock, write: AsyncLock) -> None:
        self._read = read
        self._write = write

    @property
    def name(self) -> str:
        """The name this locks."""
        return self._read.name

    def read(self) -> AsyncLock:
        """The lock that many may hold at once."""
        return self._read

    def write(self) -> AsyncLock:
        """The lock that excludes everybody else."""
        return self._write


class AsyncClient:
    """A process's connection to a store. Made by `connect`; close it, or use it in an `async with`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = settings.engine

    @property
    def address(self) -> str:
        """Where the store is, for people: without secrets."""
        return self._engine.store.address

    @property
    def guarantees(self) -> Guarantee:
        """What the store promises."""
        return self._engine.store.guarantees

    def lock(
        self, name: str, *, ttl: float | None = None, lock_delay: float = 0.0, strict_ttl: bool = False
    ) -> AsyncLock:
        """An exclusive lock. `ttl`: seconds the store keeps a silent holder, not the length of the job.

        `lock_delay`: seconds the name stays closed after a holder was lost. `strict_ttl`: raise InvalidTTL where the
        store has to round the ttl up. Raises InvalidName, InvalidTTL, GuaranteeMissing; sends nothing.
        """
        return AsyncLock(self._engine, self._settings.permits(name, ttl, lock_delay=lock_delay, strict_ttl=strict_ttl))

    def semaphore(
        self, name: str, *, limit: int, ttl: float | None = None, lock_delay: float = 0.0, strict_ttl: bool = False
    ) -> AsyncSemaphore:
        """`limit` permits of a name; everybody who uses the name must use the same limit. Otherwise as `lock`."""
        return AsyncSemaphore(
            self._engine,
            self._settings.permits(name, ttl, limit=limit, lock_delay=lock_delay, strict_ttl=strict_ttl),
        )

    def rwlock(
        self, name: str, *, ttl: float | None = None, lock_delay: float = 0.0, strict_ttl: bool = False
    ) -> AsyncRWLock:
        """A read-write lock: `.read()` and `.write()` are locks. Otherwise as `lock`."""
        read = self._settings.permits(name, ttl, limit=ALL, lock_delay=lock_delay, strict_ttl=strict_ttl)
        write = self._settings.permits(name, ttl, limit=ALL, permits=ALL, lock_delay=lock_delay, strict_ttl=strict_ttl)
        return AsyncRWLock(AsyncLock(self._engine, read), AsyncLock(self._engine, write))

    def lock_all(
        self, names: Iterable[str], *, ttl: float | None = None, lock_delay: float = 0.0, strict_ttl: bool = False
    ) -> AsyncMultiLock:
        """An exclusive lock of several names, 64 at most, in any order: all of them or none. Otherwise as `lock`.

        Raises ConfigurationError (no name, too many, one twice), InvalidName, InvalidTTL, GuaranteeMissing.
        """
        from locksmith.multilocks_aio import AsyncMultiLock  # not everybody has multi-locks

        return AsyncMultiLock(self._engine, self._settings.together(names, ttl, lock_delay, strict_ttl))

    def election(self, name: str, *, ttl: float | None = None, lock_delay: float = 0.0) -> AsyncElection:
        """A candidate for a name that one of many leads. `ttl`: seconds after which a silent leader is succeeded.

        `lock_delay`: seconds nobody is elected after a leader was lost. Raises InvalidName, InvalidTTL,
        GuaranteeMissing where the store lacks FENCED, FIFO or CELLS; sends nothing.
        """
        from locksmith.elections_aio import AsyncElection  # not everybody has elections

        return AsyncElection(self._engine, self._settings.permits(name, ttl, lock_delay=lock_delay))

    @overload
    def cell(self, name: str, *, raw: Literal[False] = False) -> AsyncCell[Any]: ...

    @overload
    def cell(self, name: str, *, raw: Literal[True]) -> AsyncCell[bytes]: ...

    def cell(self, name: str, *, raw: bool = False) -> AsyncCell[Any]:
        """A small shared value: whatever JSON can express, or with `raw` bytes as they are; 64 KB at most.

        Raises InvalidName, GuaranteeMissing where the store lacks CELLS; sends nothing.
        """
        from locksmith.cells_aio import AsyncCell  # not everybody has cells
        from locksmith.recipes.cells import CellRecipe

        return AsyncCell(CellRecipe(self._engine, name, raw=raw))

    def rate_limit(self, name: str, *rates: str, burst: int | Sequence[int] = 0) -> AsyncRateLimit:
        """At most so many in any window, as "70/s", "1000/h" or "10/15m" say; all of them at once count.

        `burst`: how many more may come at once, beyond the pace, in each window; one number, or one for each rate.
        Raises ConfigurationError, InvalidName, GuaranteeMissing where the store lacks CLOCK; sends nothing.
        """
        from locksmith.rates_aio import AsyncRateLimit  # not everybody has rate limits
        from locksmith.recipes.rates import RateRecipe, parse

        return AsyncRateLimit(RateRecipe(self._engine, name, parse(rates, burst)))

    async def inspect(self, name: str) -> Inspection:
        """Who holds a name and who waits for it. Raises StoreError."""
        return await self._engine.store.inspect(name)

    async def names(self, prefix: str = "") -> AsyncIterator[str]:
        """Names with holders or waiters that begin with `prefix`, page by page, in no order. Raises StoreError."""
        after = None
        while True:
            page = await self._engine.store.names(prefix, after)
            for name in page.names:
                yield name
            if (after := page.next) is None:
                return

    async def evict(self, name: str, token: int) -> bool:
        """Take a name from the holder with this token, who learns it with its next beat. Raises StoreError."""
        return await self._engine.store.evict(name, token)

    async def diagnose(self) -> list[Finding]:
        """Probe the server for what breaks promises. Raises StoreError."""
        return await self._engine.store.diagnose()

    def add_hook(self, hook: Hook) -> None:
        """Give the records of `locksmith.events` to this hook too, once however often it is added, from now on.

        Raises ConfigurationError for what cannot be called.
        """
        add_hook(self._engine.hooks, hook)

    def remove_hook(self, hook: Hook) -> None:
        """Give it no more of them; nothing happens where it was not added."""
        remove_hook(self._engine.hooks, hook)

    async def close(self) -> None:
        """Give back what is held, leave every line and close what we opened. Idempotent."""
        await self._engine.runtime.finish(self._engine.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._engine.store.address}{' (closed)' if self._engine.closed else ''}>"


def connect(
    target: object,
    *,
    ttl: float = 30.0,
    waiter_ttl: float = 10.0,
    namespace: str = "locksmith",
    require: Guarantee | str | Iterable[str] = Guarantee.NONE,
    hooks: Iterable[Hook] = (),
    heartbeat: str = "thread",
    clock: Clock | None = None,
) -> AsyncClient:
    """A client of the store at a URL, or over a driver's client that stays yours. No connection is made yet.

    `ttl`: the default of this client's names. `waiter_ttl`: seconds the store keeps a silent waiter. `namespace`
    keeps users of one server apart. `require`: guarantees without which GuaranteeMissing is raised, as flags or names
    ("fenced", "durable"). `hooks` take the records of `locksmith.events`. `heartbeat="process"` renews from a small
    child process, for work that starves threads. `clock` is for tests.
    Raises UnknownScheme, DriverMissing, GuaranteeMissing, ConfigurationError.
    """
    return AsyncClient(settle(target, Asyncio(clock), ttl, waiter_ttl, namespace, require, hooks, heartbeat))


if not TYPE_CHECKING:  # who checks types looks at the names imported above
    _LATER = {"AsyncElection": "elections", "AsyncLeadership": "elections", "AsyncCell": "cells"}
    _LATER |= {"AsyncMultiLease": "multilocks", "AsyncMultiLock": "multilocks", "AsyncRateLimit": "rates"}

    def __getattr__(name: str) -> Any:
        if name in _LATER:  # they stand on what is defined here, and are loaded when they are asked for
            return getattr(import_module(f"locksmith.{_LATER[name]}_aio"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
