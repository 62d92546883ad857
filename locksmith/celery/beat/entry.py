"""Entries of a schedule: Celery's, with what becomes of fires that were missed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from celery.beat import ScheduleEntry
from celery.schedules import ParseException, crontab, schedule

from locksmith.celery.beat.misfire import Misfire, misfire_of
from locksmith.celery.beat.moments import Moments, moments_of
from locksmith.celery.plan import plan_of
from locksmith.errors import ConfigurationError
from locksmith.recipes.permits import check_seconds

_OURS: Final = ("misfire", "overlap")
_PHASES: Final = {"skip": "until_executed", "buffer": "until_and_while_executing"}
"""What a task has to be for an overlap policy: it is kept by the keys of Singleton."""


class Entry(ScheduleEntry):
    """An entry as `beat_schedule` has it, which may also say `"misfire"` and `"overlap"`. Raises ConfigurationError."""

    def __init__(self, *args: Any, misfire: object = None, overlap: str = "allow", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.misfire = None if misfire is None else misfire_of(misfire)
        if overlap != "allow" and overlap not in _PHASES:
            raise ConfigurationError(f"an overlap policy is one of allow, {', '.join(_PHASES)}, not {overlap!r}")
        self.overlap = overlap

    def update(self, other: Any) -> None:
        """Take over what an equally named entry says."""
        super().update(other)
        for name in _OURS:
            setattr(self, name, getattr(other, name, None))


def entry_of(name: str, told: Mapping[str, Any], app: Any) -> Entry:
    """An entry that somebody has added: as in `beat_schedule`, with the schedule as seconds or a crontab's five fields.

    Raises ConfigurationError.
    """
    known = {"task", "schedule", "args", "kwargs", "options", *_OURS}
    if not isinstance(told.get("task"), str) or set(told) - known:
        raise ConfigurationError(f"an entry has a task and a schedule, and may have {', '.join(sorted(known))}")
    return Entry(name=name, app=app, **{**told, "schedule": _schedule(told.get("schedule"), app)})


def _schedule(told: object, app: Any) -> Any:
    if not isinstance(told, str):
        return schedule(timedelta(seconds=check_seconds("the schedule of an entry", told, positive=True)), app=app)
    try:
        minute, hour, day_of_month, month_of_year, day_of_week = told.split()
        fields = (minute, hour, day_of_week, day_of_month, month_of_year)  # Celery's order
        return crontab(*fields, app=app)
    except (ParseException, ValueError) as error:
        raise ConfigurationError(f"a schedule is seconds, or the five fields of a crontab, not {told!r}") from error


def check_overlap(entry: Any, app: Any) -> None:
    """Raises ConfigurationError where the task of an entry cannot keep its overlap policy."""
    wanted = _PHASES.get(getattr(entry, "overlap", "allow"))
    if wanted is None:
        return
    task = app.tasks.get(entry.task)
    plan = None if task is None else plan_of(task)
    if plan is None or plan.options.phase != wanted:
        raise ConfigurationError(
            f"the entry {entry.name!r} has the overlap policy {entry.overlap!r}: its task {entry.task!r} needs "
            f'base=Singleton with singleton_phase="{wanted}", and the beat must import it'
        )


class Planned:
    """An entry as a beat works with it: when it is due, and what its policy is."""

    __slots__ = ("entry", "misfire", "moments", "name", "retry_at")

    def __init__(self, entry: Any, misfire: Misfire) -> None:
        self.entry = entry
        self.name: str = entry.name
        self.moments: Moments = moments_of(entry.schedule)
        self.misfire: Misfire = getattr(entry, "misfire", None) or misfire
        self.retry_at: int | None = None
        """When open fires are to be tried again."""
