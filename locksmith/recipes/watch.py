"""Watching one cell, and what hangs together with it: what changed since the last look, pushed where a store pushes."""

from __future__ import annotations

import enum
import math
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from locksmith.engine.core import Engine
from locksmith.errors import StoreError

T = TypeVar("T")

SLICE: Final = 2.0
"""Seconds after which a watcher looks whether its client was closed meanwhile."""


class Over(enum.Enum):
    """What a watch answers when its time ended without a change."""

    OVER = "over"


OVER: Final = Over.OVER


class Sight(NamedTuple, Generic[T]):
    """What one look at the store has shown."""

    state: T
    mark: object
    """Equal for two looks that need not be told apart."""
    version: int
    """Of the cell; 0 where there is none."""
    again_in: float = math.inf
    """Seconds after which to look again although the cell has not changed."""


class Watch(Generic[T]):
    """What was seen last, and how to wait for something else."""

    def __init__(self, engine: Engine, place: str, look: Callable[[], Awaitable[Sight[T]]], wait: float | None) -> None:
        self._engine = engine
        self._place = place
        self._look = look
        self._wait = wait
        self._mark: object = OVER

    async def next(self) -> T | Literal[Over.OVER]:
        """The state at the first call; then each time the next one that differs, or OVER after `wait` seconds.

        Changes that come faster than they are asked for are taken together: the last one counts.
        Raises StoreError, after which it may be called again; ClientClosed.
        """
        now = self._engine.runtime.clock.now
        deadline = math.inf if self._wait is None else now() + self._wait
        while True:
            try:
                sight = await self._seen()
                if sight.mark != self._mark:
                    self._mark = sight.mark
                    return sight.state
                await self._changed(sight.version, min(deadline, now() + sight.again_in))
            except StoreError:
                self._engine.refuse_unusable()  # a client that was closed meanwhile is not an unreachable store
                raise
            if now() >= deadline:
                return OVER

    async def _seen(self) -> Sight[T]:
        self._engine.refuse_unusable()
        return await self._look()

    async def _changed(self, seen: int, due: float) -> None:
        runtime = self._engine.runtime
        while (left := due - runtime.clock.now()) > 0:
            if await self._engine.store.changed(self._place, seen, min(left, SLICE)) != seen:
                return
            self._engine.refuse_unusable()
