"""A chunked job as everybody may have it: read, begun, paused, resumed, cancelled, forgotten. See chunk_record."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from locksmith.engine.core import Engine
from locksmith.errors import CellConflict, ConfigurationError
from locksmith.positions import Walk
from locksmith.recipes import chunk_list, places, plain
from locksmith.recipes.chunk_record import OVER, Record
from locksmith.recipes.needs import require
from locksmith.store import ABSENT, Grant, Guarantee

_PAUSE: Final = 0.002
_LONGEST: Final = 0.25


class ChunkJob:
    """A job by name. Stateless. Everything raises StoreError where the store cannot be asked, and ClientClosed."""

    def __init__(self, engine: Engine, name: str) -> None:
        require(engine.store, Guarantee.CELLS | Guarantee.FENCED, "a chunked job")
        self.engine = engine
        self.name = name
        self.place = places.of_chunks(name)

    async def read(self) -> Record | None:
        """What is known of it; None where it was never begun, or was forgotten. Raises ConfigurationError."""
        self.engine.refuse_unusable()
        cell = await self.engine.store.get(self.place)
        return None if cell is None else Record.load(cell.value, cell.version, self.name)

    async def write(self, record: Record, *, guard: Grant | None = None) -> Record:
        """Write what was made of a record, if that has not changed. Raises CellConflict, LeaseLost, CellTooLarge."""
        raw = plain.check_size(record.dump())
        kept = max(record.keep, self.engine.store.min_ttl) if record.state in OVER and record.keep is not None else None
        expect = record.version or ABSENT
        version = await self.engine.store.put(self.place, raw, expect=expect, ttl=kept, guard=guard)
        return replace(record, version=version)

    async def begin(
        self, walk: Walk, *, keep: float | None = None, note: Any = None, over: Record | None = None
    ) -> Record:
        """The job as it is; where there is none, it is begun. `over`: a record that is over, to begin anew in place of.

        Raises ConfigurationError where a job of this name walks something else.
        """
        while True:
            found = await self.read()
            if found is not None and (over is None or found.id != over.id or found.state not in OVER):
                if found.kind != walk.kind:
                    raise ConfigurationError(
                        f"the chunked job {self.name!r} walks {found.kind}, not {walk.kind}: begin another one under "
                        f"another name, or say `locksmith chunks forget` first"
                    )
                return found
            now = time.time()
            fresh = Record(
                os.urandom(8).hex(), walk.kind, walk.plan(), walk.first(), now, walk.total(),
                marks=((now, 0.0), (now, 0.0)), keep=keep, note=note, version=0 if found is None else found.version,
            )  # fmt: skip
            if walk.after(walk.first()) is None:
                fresh = fresh.drained().settled(now)
            try:
                written = await self.write(fresh)
            except CellConflict:
                continue
            if found is None:
                await chunk_list.add(self.engine, self.name)
            return written

    async def change(self, fn: Callable[[Record], Record]) -> Record | None:
        """Write what `fn` makes of the record, however often others come first; None where there is none."""
        pause = _PAUSE
        while True:
            found = await self.read()
            if found is None:
                return None
            made = fn(found)
            if made is found or made == found:
                return found
            try:
                return await self.write(made)
            except CellConflict:
                await self.engine.runtime.sleep(random.uniform(0, pause))
                pause = min(pause * 2, _LONGEST)

    async def pause(self) -> Record | None:
        """Have no chunk begun any more, until it is resumed. Those that are in work are finished."""
        return await self.change(lambda record: record.paused())

    async def resume(self) -> Record | None:
        """Go on, after a pause or a failure."""
        return await self.change(lambda record: record.resumed(time.time()))

    async def cancel(self) -> Record | None:
        """Have no chunk begun any more, for good. Those that are in work are finished."""
        return await self.change(lambda record: record.cancelled(time.time()))

    async def forget(self) -> bool:
        """Delete what is known of a job that is over: its name may begin anew. False where there is nothing.

        Raises ConfigurationError for a job that is not over.
        """
        while True:
            found = await self.read()
            if found is None:
                return False
            if found.state not in OVER:
                raise ConfigurationError(
                    f"the chunked job {self.name!r} is {found.state}: cancel it before it is forgotten"
                )
            try:
                await self.engine.store.delete(self.place, expect=found.version)
            except CellConflict:
                continue
            await chunk_list.remove(self.engine, self.name)
            return True

    async def changed(self, seen: int, wait: float) -> None:
        """Wait until the record is another one than that, or so many seconds."""
        await self.engine.store.changed(self.place, seen, wait)
