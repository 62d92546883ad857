"""Cells as users have them: values that JSON can express, or bytes, with compare-and-set."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from locksmith.engine.core import Engine
from locksmith.engine.lease import LeaseFace
from locksmith.errors import CellConflict, ConfigurationError
from locksmith.recipes import places, plain
from locksmith.recipes.needs import require
from locksmith.recipes.permits import check_count, check_ttl
from locksmith.recipes.watch import Sight
from locksmith.store import ABSENT, Expect, Grant, Guarantee

T = TypeVar("T")

_PAUSE: Final = 0.005
_LONGEST: Final = 0.5


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A value as it was found or written, and the version of the cell then."""

    value: T
    version: int


class CellRecipe(Generic[T]):
    """A cell of a store: what both faces of a Cell stand on. `raw`: bytes as they are instead of JSON."""

    def __init__(self, engine: Engine, name: str, *, raw: bool) -> None:
        require(engine.store, Guarantee.CELLS, "a cell")
        self.engine = engine
        self.name = name
        self.place = places.of_cell(name)
        self._raw = raw

    async def get(self) -> Versioned[T] | None:
        """The value and its version, or None where there is none. Raises StoreError."""
        self.engine.refuse_unusable()
        found = await self.engine.store.get(self.place)
        return None if found is None else Versioned(self._loaded(found.value), found.version)

    async def put(self, value: T, expect: int | Expect, ttl: float | None, guard: LeaseFace | None) -> int:
        """Write, and return the new version. See Cell.put."""
        raw, expect, ttl = self._dumped(value), _expected(expect), self._lived(ttl)
        grant = self._guarding(guard)
        self.engine.refuse_unusable()
        return await self.engine.store.put(self.place, raw, expect=expect, ttl=ttl, guard=grant)

    async def delete(self, expect: int | Expect, guard: LeaseFace | None) -> bool:
        """Delete; False where there was none. See Cell.delete."""
        expect, grant = _expected(expect), self._guarding(guard)
        self.engine.refuse_unusable()
        return await self.engine.store.delete(self.place, expect=expect, guard=grant)

    async def update(
        self, fn: Callable[[Any], T], default: object, tries: int, ttl: float | None, guard: LeaseFace | None
    ) -> Versioned[T]:
        """Read, call `fn`, write if nobody has written in between, else once more. See Cell.update.

        Optimistic concurrency (Kung and Robinson, 1981), with pauses that are drawn from a range that doubles.
        """
        left, pause = check_count("tries", tries, most=1_000_000), _PAUSE
        while True:
            found = await self.get()
            value = fn(default if found is None else found.value)
            try:
                version = await self.put(value, ABSENT if found is None else found.version, ttl, guard)
            except CellConflict as conflict:
                if (left := left - 1) == 0:
                    raise CellConflict(
                        f"cell {self.name!r} was changed by others in each of {tries} tries, nothing was written: "
                        f"try again later",
                        found=conflict.found,
                    ) from conflict
            else:
                return Versioned(value, version)
            await self.engine.runtime.sleep(random.uniform(0, pause))
            pause = min(pause * 2, _LONGEST)

    async def look(self) -> Sight[Versioned[T] | None]:
        """What a watch needs to know."""
        found = await self.get()
        version = 0 if found is None else found.version
        return Sight(found, version, version)

    def _dumped(self, value: T) -> bytes:
        if not self._raw:
            return plain.check_size(plain.dump(value))
        if not isinstance(value, bytes | bytearray | memoryview):
            raise ConfigurationError(
                f"a raw cell holds bytes, not {type(value).__name__}: encode it, or leave out raw="
            )
        return plain.check_size(bytes(value))

    def _loaded(self, raw: bytes) -> Any:
        return raw if self._raw else plain.load(raw, f"the cell {self.name!r}")

    def _lived(self, ttl: float | None) -> float | None:
        return None if ttl is None else check_ttl(ttl, self.engine.store.min_ttl)

    def _guarding(self, guard: LeaseFace | None) -> Grant | None:
        if guard is None:
            return None
        if not isinstance(guard, LeaseFace):
            raise ConfigurationError(f"guard is a lease, not {type(guard).__name__}")
        ours, theirs = self.engine.store, guard._engine.store
        if (ours.address, ours.namespace) != (theirs.address, theirs.namespace):
            raise ConfigurationError(f"the lease of {guard.name!r} lies in another store or namespace than this cell")
        guard.check()
        return guard._hold.grant


def _expected(expect: object) -> int | Expect:
    if isinstance(expect, Expect) or (isinstance(expect, int) and not isinstance(expect, bool) and expect > 0):
        return expect
    raise ConfigurationError(f"expect is a version, ABSENT or ANY, not {expect!r}")
