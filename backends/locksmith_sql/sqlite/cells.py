"""Cells: small shared values with a version, in rows of their own.

A cell's ttl must hold across a reboot (a record "done today" is no less true after one), so its end is kept by both
clocks: the host's decides in the era it was written in, the wall clock in any other.
"""

from __future__ import annotations

from typing import NamedTuple

from locksmith.errors import CellConflict, LeaseLost
from locksmith.store import ANY, Cell, Expect, Grant
from locksmith_sql.sqlite.claims import holds
from locksmith_sql.sqlite.clock import HostClock, micros
from locksmith_sql.sqlite.connection import Link
from locksmith_sql.sqlite.ledger import Ledger, original
from locksmith_sql.sqlite.sweep import MEMORY


class _Row(NamedTuple):
    value: bytes | None
    version: int
    era: int
    expires: int | None
    expires_wall: int | None

    def live(self, era: int, now: int, wall: int) -> bool:
        if self.value is None:
            return False
        if self.expires is None or self.expires_wall is None:
            return True
        return self.expires > now if self.era == era else self.expires_wall > wall


def get(link: Link, key: str) -> Cell | None:
    """See Store.get."""
    row = link.cursor.execute(link.sql.cell, (key,)).fetchone()
    clock: HostClock = link.clock
    if row is None:
        return None
    found = _Row(*row)
    if found.value is None or not found.live(clock.era, clock.now(), clock.wall()):
        return None
    return Cell(bytes(found.value), found.version)


def write(
    ledger: Ledger,
    key: str,
    name: str,
    value: bytes | None,
    *,
    expect: int | Expect,
    ttl: float | None = None,
    guard: Grant | None = None,
) -> int:
    """Put a value, or delete with None, and return the new version; 0 where there was nothing to delete."""
    if guard is not None and not holds(ledger, guard):
        raise LeaseLost(f"{guard.claim.name!r} is not held with token {guard.token} any more")
    row = ledger.cursor.execute(ledger.sql.cell, (key,)).fetchone()
    found = _Row(*row) if row else _Row(None, 0, 0, None, None)
    version = found.version if found.live(ledger.era, ledger.now, ledger.wall) else None
    if expect is not ANY and version != (expect if isinstance(expect, int) else None):
        raise CellConflict(f"cell {name!r} is at version {version}, expected {expect}", found=version)
    if value is None and version is None:
        return 0
    # A deleted cell leaves its version behind for a day, so that versions grow across deletion.
    fresh = max(found.version + 1, ledger.wall)
    ends = None if ttl is None else ledger.now + micros(ttl)
    ends_wall = None if ttl is None else ledger.wall + micros(ttl)
    sweep_at = ledger.wall + MEMORY if value is None else None if ends_wall is None else ends_wall + MEMORY
    values = (key, original(key, name), value, fresh, ledger.era, ends, ends_wall, sweep_at)
    ledger.cursor.execute(ledger.sql.put, values)
    return fresh
