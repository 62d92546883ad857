"""What watching and observing return: iterators over what changes, for threads and for tasks."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

from locksmith.recipes.watch import OVER, Watch
from locksmith.runtime import drive

T_co = TypeVar("T_co", covariant=True)


class Changes(Generic[T_co]):
    """First what is, then what it becomes; changes that come faster than they are asked for are taken together.

    Asking raises StoreError where the store cannot be asked: ask the same object again, and it goes on from there.
    """

    def __init__(self, watch: Watch[T_co]) -> None:
        self._watch = watch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        found = drive(self._watch.next())
        if found is OVER:
            raise StopIteration
        return found


class AsyncChanges(Generic[T_co]):
    """First what is, then what it becomes; changes that come faster than they are asked for are taken together.

    Asking raises StoreError where the store cannot be asked: ask the same object again, and it goes on from there.
    """

    def __init__(self, watch: Watch[T_co]) -> None:
        self._watch = watch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        found = await self._watch.next()
        if found is OVER:
            raise StopAsyncIteration
        return found
