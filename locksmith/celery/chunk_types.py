"""The chunks that `chunkify_task` gives to a task: what to work on, as values that travel as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from locksmith.errors import ConfigurationError
from locksmith.recipes.ranges import IntRange, TimeRange, dates, datetimes, ints

P = TypeVar("P")
S = TypeVar("S")


class ChunkMode:
    """What `max` means: the last place that there is (RANGE), or how many there are (SLICE)."""

    RANGE: Final = "range"
    SLICE: Final = "slice"


@dataclass(frozen=True)
class BaseChunk(Generic[P, S]):
    """`size` places from `start` on, and the end of the whole.

    Half-open: `start <= place < end`, and the next chunk starts at `end`.
    """

    start: P
    size: S
    max: P
    mode: str = ChunkMode.RANGE

    UNIT: ClassVar[Any]
    """The least step: what lies between the last place of one chunk and the first of the next."""

    def __post_init__(self) -> None:
        if self.mode not in (ChunkMode.RANGE, ChunkMode.SLICE):
            raise ConfigurationError(f"the mode of a chunk is 'range' or 'slice', not {self.mode!r}")
        if self.max is None:
            raise ConfigurationError("a chunk has a max, or its job would never end: give it the last place there is")
        self.walk()  # refuses what cannot be walked

    def walk(self) -> IntRange | TimeRange:
        """The whole, from this chunk on. Raises ConfigurationError."""
        raise NotImplementedError

    @property
    def _whole(self) -> Any:
        most: Any = self.max
        return most + self.UNIT if self.mode == ChunkMode.RANGE else most

    @property
    def end(self) -> P:
        """Where the next chunk starts: the first place that does not belong to this one."""
        start: Any = self.start
        end: P = min(start + self.size, self._whole)
        return end

    @property
    def range(self) -> tuple[P, P]:
        """For `field__range=chunk.range` and SQL's BETWEEN, which mean both ends: the first and the last place.

        The last one is 1, a day, or a microsecond before `end`. In mode "slice" it is (start, end).
        """
        end: Any = self.end
        return self.start, end - self.UNIT if self.mode == ChunkMode.RANGE else end

    @property
    def slice(self) -> slice:
        """For `rows[chunk.slice]`."""
        return slice(self.start, self.end)

    @property
    def is_exhausted(self) -> bool:
        """Whether there is nothing in it: it starts behind the end of the whole."""
        start: Any = self.start
        return bool(start >= self._whole)

    def next(self) -> Self:
        """The chunk that follows."""
        return type(self)(self.end, self.size, self.max, self.mode)

    def at(self, start: Any) -> Self:
        """The chunk of the same whole that starts there."""
        return type(self)(start, self.size, self.max, self.mode)

    def __json__(self) -> dict[str, Any]:
        """As Celery's JSON has it."""
        size = self.size.total_seconds() if isinstance(self.size, timedelta) else self.size
        return {"start": _text(self.start), "size": size, "max": _text(self.max), "mode": self.mode}

    @classmethod
    def of(cls, told: Any) -> Self:
        """A chunk of this class, or what JSON has made of one: a dict or a list. Raises ConfigurationError."""
        if isinstance(told, cls):
            return told
        try:
            if isinstance(told, dict):
                return cls(**{name: cls._value(name, value) for name, value in told.items()})
            names = ("start", "size", "max", "mode")
            return cls(**{name: cls._value(name, value) for name, value in zip(names, told, strict=False)})
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{told!r} is no {cls.__name__}: {error}") from error

    @classmethod
    def _value(cls, name: str, value: Any) -> Any:
        return value


class IntChunk(BaseChunk[int, int]):
    """Whole numbers: ids, or places in a list."""

    UNIT = 1

    def walk(self) -> IntRange:
        """See BaseChunk.walk."""
        return ints(self.start, self._whole, size=self.size)


Chunk = IntChunk


class DateChunk(BaseChunk[date, timedelta]):
    """Days. `size` is a timedelta of whole days."""

    UNIT = timedelta(days=1)

    def walk(self) -> TimeRange:
        """See BaseChunk.walk."""
        return dates(self.start, self._whole, size=self.size)

    @classmethod
    def _value(cls, name: str, value: Any) -> Any:
        if name in ("start", "max") and isinstance(value, str):
            return date.fromisoformat(value)
        return _size(name, value)


class DateTimeChunk(BaseChunk[datetime, timedelta]):
    """Moments, in microseconds. Those with a zone come as UTC."""

    UNIT = timedelta(microseconds=1)

    def walk(self) -> TimeRange:
        """See BaseChunk.walk."""
        return datetimes(self.start, self._whole, size=self.size)

    @classmethod
    def _value(cls, name: str, value: Any) -> Any:
        if name in ("start", "max") and isinstance(value, str):
            return datetime.fromisoformat(value)
        return _size(name, value)


def _size(name: str, value: Any) -> Any:
    return timedelta(seconds=value) if name == "size" and isinstance(value, int | float) else value


def _text(place: Any) -> Any:
    return place.isoformat() if isinstance(place, date) else place
