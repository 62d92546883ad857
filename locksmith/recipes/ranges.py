"""Ranges of numbers, days and moments, in chunks: half-open, so that nothing lies between two of them or in both.

Moments with a zone are walked in UTC, where every second is there once: the same wall clock reads twice in autumn, and
Python compares two times of one zone as they read. So boundaries are given in UTC as well, whatever the zone was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from locksmith import positions
from locksmith.errors import ConfigurationError

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class IntRange:
    """Whole numbers from `start` to before `end`, `size` at a time."""

    start: int
    end: int
    size: int
    kind: str = "ints"

    def plan(self) -> Any:
        """JSON."""
        return [self.start, self.end, self.size]

    def planned(self, plan: Any) -> IntRange:
        """As it was planned."""
        return IntRange(*plan)

    def first(self) -> int:
        """Where it begins."""
        return self.start

    def after(self, place: int) -> tuple[int, int, float] | None:
        """The chunk that begins there."""
        if place >= self.end:
            return None
        end = min(place + self.size, self.end)
        return place, end, float(end - place)

    def total(self) -> float:
        """How many."""
        return float(max(0, self.end - self.start))

    def value(self, place: int) -> int:
        """The number itself."""
        return place

    def items(self, start: int, end: int) -> Iterable[int]:
        """The numbers of a chunk."""
        return range(start, end)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Days, or moments with or without a zone, from `start` to before `end`, `size` at a time."""

    start: date | datetime
    end: date | datetime
    size: timedelta
    kind: str = "datetimes"

    def plan(self) -> Any:
        """JSON."""
        return [positions.dump(self.start), positions.dump(self.end), _micros(self.size)]

    def planned(self, plan: Any) -> TimeRange:
        """As it was planned."""
        start, end, size = plan
        return TimeRange(positions.load(start), positions.load(end), timedelta(microseconds=size), self.kind)

    def first(self) -> Any:
        """Where it begins."""
        return positions.dump(self.start)

    def after(self, place: Any) -> tuple[Any, Any, float] | None:
        """The chunk that begins there."""
        start: Any = positions.load(place)
        if start >= self.end:
            return None
        left = self.end - start
        # Compared first: one step beyond the last year there is no time to compare with.
        end = self.end if left <= self.size else start + self.size
        return place, positions.dump(end), (end - start).total_seconds()

    def total(self) -> float:
        """Seconds."""
        end: Any = self.end
        return max(0.0, float((end - self.start).total_seconds()))

    def value(self, place: Any) -> Any:
        """The day or moment."""
        return positions.load(place)

    def items(self, start: Any, end: Any) -> Iterable[date]:
        """The days of a chunk."""
        if self.kind != "dates":
            raise ConfigurationError("a chunk of moments cannot be iterated over: use its start and its end")
        first = positions.load(start)
        return (first + _DAY * number for number in range((positions.load(end) - first).days))


def ints(start: int, end: int, *, size: int) -> IntRange:
    """Whole numbers, `start <= n < end`, `size` in each chunk. Empty where `end` is not above `start`.

    Raises ConfigurationError.
    """
    for name, value in (("start", start), ("end", end), ("size", size)):
        if not _is_a(value, int, bool):
            raise ConfigurationError(f"{name} of ints is a whole number, not {value!r}")
    if size < 1:
        raise ConfigurationError(f"a chunk has at least one number, not {size}")
    return IntRange(start, end, size)


def dates(start: date, end: date, *, size: timedelta | int = 1) -> TimeRange:
    """Days, `start <= day < end`, `size` of them in each chunk (a number, or a timedelta of whole days).

    Raises ConfigurationError.
    """
    for name, value in (("start", start), ("end", end)):
        if not _is_a(value, date, datetime):
            raise ConfigurationError(f"{name} of dates is a date, not {value!r}")
    step: Any = timedelta(days=size) if _is_a(size, int, bool) else size  # type: ignore[arg-type]  # it is one
    if not _is_a(step, timedelta) or step < _DAY or step % _DAY:
        raise ConfigurationError(f"size of dates is one whole day or more, not {size!r}: for less there is datetimes()")
    return TimeRange(start, end, step, "dates")


def datetimes(start: datetime, end: datetime, *, size: timedelta) -> TimeRange:
    """Moments, `start <= moment < end`, `size` of elapsed time in each chunk, down to microseconds.

    Both with a zone or both without one; with one, chunks have their boundaries in UTC, and a day is 24 hours also
    where the clocks change. Raises ConfigurationError.
    """
    for name, value in (("start", start), ("end", end)):
        if not _is_a(value, datetime):
            raise ConfigurationError(f"{name} of datetimes is a datetime, not {value!r}")
    if (start.utcoffset() is None) != (end.utcoffset() is None):
        raise ConfigurationError("start and end of datetimes both have a zone, or neither has one")
    if not _is_a(size, timedelta) or size <= timedelta(0):
        raise ConfigurationError(f"size of datetimes is a timedelta above zero, not {size!r}")
    if start.utcoffset() is None:
        return TimeRange(start.replace(tzinfo=None), end.replace(tzinfo=None), size)
    return TimeRange(start.astimezone(UTC), end.astimezone(UTC), size)


def _is_a(value: object, kind: type, but: type | tuple[()] = ()) -> bool:
    return isinstance(value, kind) and not isinstance(value, but)


def _micros(size: timedelta) -> int:
    return size // timedelta(microseconds=1)
