"""Cells, asyncio: a thin mirror of `locksmith.cells`, with the same method names and parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from locksmith.aio import AsyncLease
from locksmith.changes import AsyncChanges
from locksmith.recipes.cells import CellRecipe, Versioned
from locksmith.recipes.permits import check_wait
from locksmith.recipes.watch import Watch
from locksmith.store import ANY, Expect

T = TypeVar("T")


class AsyncCell(Generic[T]):
    """A small shared value with a version. Cheap and stateless: share it between tasks."""

    __slots__ = ("_cell",)

    def __init__(self, cell: CellRecipe[T]) -> None:
        self._cell = cell

    @property
    def name(self) -> str:
        """What it is called. Cells and locks of one name are two things."""
        return self._cell.name

    async def get(self) -> Versioned[T] | None:
        """The value with its version, or None where there is none. Raises StoreError, ClientClosed."""
        return await self._cell.get()

    async def put(
        self, value: T, *, expect: int | Expect = ANY, ttl: float | None = None, guard: AsyncLease | None = None
    ) -> int:
        """Write the cell, and return its new version; versions grow with every write, also across deletion.

        `expect`: a version, or locksmith.ABSENT, or ANY. `ttl`: seconds after which it is gone (None: it stays, also
        where the last write gave a ttl). `guard`: a lease of this store; the store writes only while that is held.
        Raises CellConflict, LeaseLost; CellTooLarge and ConfigurationError (no JSON) before anything is sent;
        StoreError, where it may or may not have been written.
        """
        return await self._cell.put(value, expect, ttl, guard)

    async def update(
        self,
        fn: Callable[[Any], T],
        *,
        default: object = None,
        tries: int = 16,
        ttl: float | None = None,
        guard: AsyncLease | None = None,
    ) -> Versioned[T]:
        """Write what `fn` makes of the value (of `default` where there is none), unless it was changed in between.

        Then `fn` is called again with the new value, `tries` times in all and after growing, random pauses, so it
        should do nothing but compute. Returns what was written. Raises CellConflict after the last try; what `fn`
        raises, with nothing written; and as `put` does.
        """
        return await self._cell.update(fn, default, tries, ttl, guard)

    async def delete(self, *, expect: int | Expect = ANY, guard: AsyncLease | None = None) -> bool:
        """Delete the cell; False where there was none. Raises as `put` does."""
        return await self._cell.delete(expect, guard)

    def watch(self, *, wait: float | None = None) -> AsyncChanges[Versioned[T] | None]:
        """Iterate over what is in the cell: now, then after each change (None: deleted), told where the store pushes.

        Ends after `wait` seconds without a change.
        """
        return AsyncChanges(Watch(self._cell.engine, self._cell.place, self._cell.look, check_wait(wait)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self._cell.engine.store.address}>"
