"""What all beats know of the entries: in cells, many entries in each, changed by compare-and-set alone.

A fire is an entry and a moment. It is *claimed* when it stands in the book as open, sent, and then *marked*: not open
any more, and counted. Whoever finds an open fire that nobody is about to send sends it, under the same task id.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from locksmith.client import Client, Lease
from locksmith.errors import CellConflict, StoreProtocolError
from locksmith.recipes import places, plain
from locksmith.runtime import drive
from locksmith.store import ABSENT, Expect

PAGES: Final = 64
"""Cells of one schedule: few to read when a beat takes over, and small enough to write at each fire."""
FORMAT: Final = 1
_FIRES: Final = uuid.UUID("5a1f6b0e-7a3b-5c58-9d0e-3e1f8f4f2b7d")


def task_id(schedule: str, entry: str, moment: int) -> str:
    """The id of the task that a fire is published as: the same whoever publishes it, and however often."""
    return str(uuid.uuid5(_FIRES, f"{len(schedule)}:{schedule}:{len(entry)}:{entry}:{moment}"))


def page_of(entry: str) -> int:
    """The page that an entry stands on."""
    return zlib.crc32(entry.encode("utf-8", "surrogatepass")) % PAGES


@dataclass(frozen=True, slots=True)
class Line:
    """What is known of one entry."""

    last: int
    """The last moment that was dealt with, sent or left out; a new entry begins with the one at which it was seen."""
    count: int = 0
    """How often it was sent."""
    open: tuple[int, ...] = ()
    """Moments whose fires are claimed, and not known to be sent."""
    by: str = ""
    """The beat that claimed them."""
    at: int = 0
    """When it did, by its own clock."""

    def claim(self, moments: tuple[int, ...], upto: int, by: str, at: int) -> Line:
        """These fires are about to be sent, and everything up to that moment is dealt with."""
        return Line(upto, self.count, moments, by, at)

    def mark(self, moment: int, *, sent: bool = True) -> Line:
        """This fire was sent, or is given up."""
        if moment not in self.open:
            return self
        left = tuple(each for each in self.open if each != moment)
        return replace(self, count=self.count + sent, open=left)

    def dump(self) -> list[Any]:
        """As it stands in the cell: short, since there are many."""
        return [self.last, self.count, *([list(self.open), self.by, self.at] if self.open else [])]

    @classmethod
    def load(cls, told: list[Any]) -> Line:
        """The line in a cell."""
        last, count, *claimed = told
        moments, by, at = claimed or ((), "", 0)
        return cls(int(last), int(count), tuple(map(int, moments)), str(by), int(at))


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and the version of their cell (0: there is none)."""

    lines: Mapping[str, Line] = field(default_factory=dict)
    version: int = 0


Change = Callable[[Mapping[str, Line]], Mapping[str, Line]]
"""The new lines, from those that are there: computed from these alone, and anew where others have changed them."""


class Book:
    """The pages of one schedule. Its methods raise StoreError where the store cannot be asked."""

    def __init__(self, client: Client, schedule: str) -> None:
        self._engine = client._engine
        self._schedule = schedule

    def read(self, number: int) -> Page:
        """A page as it is now."""
        self._engine.refuse_unusable()
        cell = drive(self._engine.store.get(self._place(number)))
        return Page() if cell is None else Page(self._loaded(cell.value), cell.version)

    def change(self, number: int, page: Page, change: Change, guard: Lease | None) -> Page:
        """Write what `change` makes of a page, while `guard` is held; `page` is what was read last, and may be old.

        Raises LeaseLost, and then nothing was written.
        """
        while True:
            lines = change(page.lines)
            if lines == page.lines:
                return page
            try:
                return self._write(number, lines, page.version, guard)
            except CellConflict:
                page = self.read(number)

    def _write(self, number: int, lines: Mapping[str, Line], version: int, guard: Lease | None) -> Page:
        self._engine.refuse_unusable()
        raw = plain.check_size(plain.dump({"v": FORMAT, "e": {name: line.dump() for name, line in lines.items()}}))
        expect: int | Expect = version or ABSENT
        grant = None if guard is None else guard._hold.grant
        written = drive(self._engine.store.put(self._place(number), raw, expect=expect, guard=grant))
        return Page(lines, written)

    def _place(self, number: int) -> str:
        return places.of_beat(self._schedule, f"page{number}")

    def _loaded(self, raw: bytes) -> dict[str, Line]:
        told = plain.load(raw, f"a page of the schedule {self._schedule!r}")
        if not isinstance(told, dict) or told.get("v") != FORMAT:
            raise StoreProtocolError(
                f"the schedule {self._schedule!r} was written by another version of locksmith: use one version for all "
                f"beats of a schedule"
            )
        return {name: Line.load(line) for name, line in told["e"].items()}
