"""Multi-locks, asyncio: a thin mirror of `locksmith.multilocks`, with the same method names and parameters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

from locksmith.engine.core import Engine
from locksmith.engine.hold import Hold
from locksmith.engine.together import release_all
from locksmith.errors import AcquireTimeout
from locksmith.leases_aio import Acquisition, AsyncBlock
from locksmith.recipes.multilease import MultiLeaseFace, lost_names, wait_any_lost
from locksmith.recipes.multilock import Together
from locksmith.recipes.permits import Permits, check_wait


class AsyncMultiLostSignal:
    """The end of a name that nobody gave back, to ask for or to wait for."""

    __slots__ = ("_lease",)

    def __init__(self, lease: AsyncMultiLease) -> None:
        self._lease = lease

    @property
    def names(self) -> tuple[str, ...]:
        """Which names were lost."""
        return lost_names(self._lease)

    def is_set(self) -> bool:
        """Whether one of the names was lost."""
        return bool(self.names)

    async def wait(self, timeout: float | None = None) -> bool:
        """True as soon as one is lost; False where all were released, or `timeout` seconds passed, before."""
        return await wait_any_lost(self._lease, timeout)


class AsyncMultiLease(AsyncBlock, MultiLeaseFace):
    """Several names, acquired together. Give them back with `await release()`, or use it in an `async with`."""

    __slots__ = ("_body", "_cancelled_by_us")

    def __init__(self, engine: Engine, holds: Sequence[Hold], body: asyncio.Task[Any] | None = None) -> None:
        super().__init__(engine, holds)
        self._body = body
        self._cancelled_by_us = False
        if body is not None:
            self.on_lost(self._cancel_body)

    @property
    def lost(self) -> AsyncMultiLostSignal:
        """Set when the first of the names was lost; `lost.names` says which were, `await lost.wait(timeout)` waits."""
        return AsyncMultiLostSignal(self)

    async def release(self) -> bool:
        """True: all were given back. False: were released before. Raises LeaseLost where some of them were lost.

        The others are given back all the same. Raises StoreError where the store could not be asked: renewal has
        ended, giving back goes on being tried until the ttl has passed, and calling this again is safe.
        """
        self._body = None
        return await release_all(self._engine, self._holds)


class AsyncMultiLock:
    """Several names with settings: stateless, cheap, to be shared between tasks."""

    __slots__ = ("_engine", "_together")

    def __init__(self, engine: Engine, permits: Sequence[Permits]) -> None:
        self._engine = engine
        self._together = Together(engine, permits)

    @property
    def names(self) -> tuple[str, ...]:
        """The names this locks, in the order in which they were given."""
        return self._together.names

    def acquire(
        self,
        *,
        wait: float | None = None,
        note: str | None = None,
        max_hold: float | None = None,
        cancel_on_loss: bool = False,
    ) -> Acquisition[AsyncMultiLease]:
        """A lease of all names, after waiting for at most `wait` seconds (None: without bound, 0: one try).

        `await` the result, or use it in an `async with`. `note` is shown to people who list holders. `max_hold`:
        seconds after which it ends even if renewed. `cancel_on_loss` cancels the task that acquired when one of the
        names is lost; an `async with` then raises LeaseLost.
        Raises AcquireTimeout, SelfDeadlock, SettingsConflict, StoreError, ConfigurationError, ClientClosed; in each of
        these cases none of the names is held.
        """
        patience = check_wait(wait)

        async def acquire() -> AsyncMultiLease:
            holds = await self._together.acquire(patience, note, max_hold)
            if holds is None:
                shown = ", ".join(map(repr, self.names))
                raise AcquireTimeout(f"{shown} were not all free within {wait} s: nothing is held; try again later")
            return AsyncMultiLease(self._engine, holds, asyncio.current_task() if cancel_on_loss else None)

        return Acquisition(acquire)

    async def try_acquire(self, *, note: str | None = None, max_hold: float | None = None) -> AsyncMultiLease | None:
        """A lease of all names, or None where somebody has one of them or waits for it. Raises as `acquire` does.

        One request where the store can; see docs/multi-lock.md.
        """
        holds = await self._together.acquire(0.0, note, max_hold)
        return None if holds is None else AsyncMultiLease(self._engine, holds)

    def __enter__(self) -> NoReturn:
        raise TypeError("a multi-lock is only names: write `async with lock.acquire() as lease:`")

    def __exit__(self, *exc: object) -> None: ...

    async def __aenter__(self) -> NoReturn:
        raise TypeError("a multi-lock is only names: write `async with lock.acquire() as lease:`")

    async def __aexit__(self, *exc: object) -> None: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(map(repr, self.names))} at {self._engine.store.address}>"
