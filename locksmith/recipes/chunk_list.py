"""Which chunked jobs a store has: names in a few cells, since no store lists its cells.

Only for people: a job that is missing here works as well.
"""

from __future__ import annotations

import json
import logging
import random
import zlib
from collections.abc import Callable
from typing import Final

from locksmith.engine.core import Engine
from locksmith.errors import CellConflict, CellTooLarge
from locksmith.recipes import places
from locksmith.recipes.chunk_record import OVER, Record
from locksmith.store import ABSENT

logger: Final = logging.getLogger("locksmith.chunks")
PARTS: Final = 8
_TRIES: Final = 50
_MOST: Final = 16 * 1024
"""Bytes of one part: each job that begins writes one."""
_LOOKS: Final = 20
"""Jobs that are looked at to make room."""
ACTIVE: Final = places.of_chunks("celery", "list")
"""Jobs of Celery tasks that have not ended: workers look after them."""
_PLACES: Final = [places.of_chunks(str(part), "list") for part in range(PARTS)]


async def add(engine: Engine, name: str, place: str | None = None) -> None:
    """A job was begun. Where the list is full, some of those that are over are taken out of it."""
    where = place or _place(name)
    try:
        await _change(engine, where, lambda names: names | {name})
    except CellTooLarge:
        known = sorted(await _read(engine, where))
        over = {each for each in random.sample(known, min(_LOOKS, len(known))) if await _is_over(engine, each)}
        try:
            await _change(engine, where, lambda names: (names - over) | {name})
        except CellTooLarge:
            logger.warning("the chunked job %r works, but cannot be listed: there are too many", name)


async def remove(engine: Engine, name: str, place: str | None = None) -> None:
    """A job was forgotten."""
    await _change(engine, place or _place(name), lambda names: names - {name})


async def names(engine: Engine) -> list[str]:
    """All of them, sorted; some may be gone by now."""
    return sorted([name for place in _PLACES for name in await _read(engine, place)])


async def active(engine: Engine) -> list[str]:
    """Those of Celery tasks that have not ended, sorted; some may be gone by now."""
    return sorted(await _read(engine, ACTIVE))


def _place(name: str) -> str:
    return _PLACES[zlib.crc32(name.encode("utf-8", "surrogatepass")) % PARTS]


async def _is_over(engine: Engine, name: str) -> bool:
    cell = await engine.store.get(places.of_chunks(name))
    return cell is None or Record.load(cell.value, cell.version, name).state in OVER


async def _read(engine: Engine, place: str) -> frozenset[str]:
    cell = await engine.store.get(place)
    return frozenset() if cell is None else frozenset(json.loads(cell.value))


async def _change(engine: Engine, place: str, fn: Callable[[frozenset[str]], frozenset[str]]) -> None:
    for _ in range(_TRIES):
        cell = await engine.store.get(place)
        before = frozenset() if cell is None else frozenset(json.loads(cell.value))
        after = fn(before)
        if after == before:
            return
        raw = json.dumps(sorted(after), separators=(",", ":")).encode("ascii")
        if len(raw) > _MOST and len(after) > len(before):
            raise CellTooLarge("the list of chunked jobs is full")
        try:
            await engine.store.put(place, raw, expect=ABSENT if cell is None else cell.version)
            return
        except CellConflict:
            await engine.runtime.sleep(random.uniform(0, 0.05))
    logger.warning("the list of chunked jobs was changed by others in each of %d tries: it may be incomplete", _TRIES)
