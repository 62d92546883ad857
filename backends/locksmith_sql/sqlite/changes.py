"""Whether anybody committed anything: `PRAGMA data_version`, and what waits for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from locksmith.errors import StoreError
from locksmith.runtime import Runtime
from locksmith_sql.sqlite.connection import Desk, Link

_SHORTEST: Final = 0.001
_LONGEST: Final = 0.025
# A cell may also end by its ttl, which no commit tells.
_ANYWAY: Final = 0.25


def data_version(link: Link) -> tuple[int, int]:
    """Something that changes whenever another connection has committed to the file. Costs 3 us, and takes no lock."""
    # Versions of two connections cannot be compared, so the connection is part of it.
    return link.serial, link.cursor.execute("PRAGMA data_version").fetchone()[0]


async def changed(desk: Desk, runtime: Runtime, version: Callable[[], Awaitable[int]], seen: int, wait: float) -> int:
    """See Store.changed: asks for the version again only after a commit, or after a quarter of a second."""
    clock = runtime.clock
    ends = clock.now() + wait
    pause = _SHORTEST
    while True:
        before = await _look(desk, runtime)
        found = await version()
        asked_at = clock.now()
        if found != seen or asked_at >= ends:
            return found
        while clock.now() < min(ends, asked_at + _ANYWAY):
            await runtime.sleep(min(pause, max(ends - clock.now(), 0.0)))
            pause = min(pause * 1.5, _LONGEST)
            if await _look(desk, runtime) != before:
                pause = _SHORTEST
                break


async def _look(desk: Desk, runtime: Runtime) -> tuple[int, int] | None:
    try:
        if not desk.polling:
            return await runtime.call(lambda: desk.poll(data_version))
        return desk.poll(data_version)
    except StoreError:
        return None  # whoever asks for the version is told what is wrong
