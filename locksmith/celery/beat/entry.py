"""Entries of a schedule: Celery's, with what becomes of fires that were missed."""

from __future__ import annotations

from typing import Any, Final

from celery.beat import ScheduleEntry

from locksmith.celery.beat.misfire import Misfire, misfire_of
from locksmith.celery.beat.slots import Slots, slots_of

_OURS: Final = ("misfire",)


class Entry(ScheduleEntry):
    """An entry as `beat_schedule` has it, which may also say `"misfire"`. Raises ConfigurationError."""

    def __init__(self, *args: Any, misfire: object = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.misfire = None if misfire is None else misfire_of(misfire)

    def update(self, other: Any) -> None:
        """Take over what an equally named entry says."""
        super().update(other)
        for name in _OURS:
            setattr(self, name, getattr(other, name, None))


class Planned:
    """An entry as a beat works with it: when it is due, and what its policy is."""

    __slots__ = ("entry", "misfire", "name", "retry_at", "slots")

    def __init__(self, entry: Any, misfire: Misfire) -> None:
        self.entry = entry
        self.name: str = entry.name
        self.slots: Slots = slots_of(entry.schedule)
        self.misfire: Misfire = getattr(entry, "misfire", None) or misfire
        self.retry_at: int | None = None
        """When open fires are to be tried again."""
