"""When an entry of a schedule is due: the moments that Celery's schedules name, in order, none twice and none left out.

Moments are microseconds since 1970, UTC. What a fire is called is made of its moment, so every beat must come to the
same ones, whenever and from wherever it looks: none of this asks for the present time.

Time zones: intervals know none. A crontab means the clock on the wall (PEP 495 has the words). Where clocks are put
back, an entry that names its hours fires in the first of the two equal hours only, and one for every hour in both.
Where they are put forward, an entry whose time is left out fires as long after the change as its time lies in the gap
(02:30 at 03:30), and one for every hour has nothing to catch up.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final, Protocol, cast

from celery import schedules

SECOND: Final = 1_000_000
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EVERY_HOUR: Final = frozenset(range(24))
_YEARS: Final = 41 * 366
"""Days to look ahead: the 29th of February falls on a given weekday within 40 years, also over 2100."""


class Moments(Protocol):
    """The moments of one schedule."""

    def after(self, last: int) -> int | None:
        """The first moment after `last`, or None where there will never be one."""

    def between(self, last: int, now: int) -> Sequence[int]:
        """All moments after `last` up to `now`."""


def moments_of(schedule: Any) -> Moments:
    """The moments of a schedule as Celery has it: schedule, crontab, solar, or one with a `remaining_estimate`."""
    if isinstance(schedule, schedules.crontab):
        return WallClock(schedule)
    if type(schedule) is schedules.schedule and not schedule.relative:
        return Interval(cast(Any, schedule).run_every)
    if hasattr(schedule, "clocked_time"):  # django-celery-beat: once, at that time
        return Once(micros(schedule.maybe_make_aware(schedule.clocked_time)))
    return Estimated(schedule)


def micros(moment: datetime) -> int:
    """An aware datetime as a moment."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def when(moment: int) -> datetime:
    """A moment as an aware datetime."""
    return _EPOCH + timedelta(microseconds=moment)


class Interval:
    """Every so often, counted from where it began: a late fire does not shift those that follow it."""

    def __init__(self, period: timedelta) -> None:
        self.period = max(period // timedelta(microseconds=1), 1)

    def after(self, last: int) -> int | None:
        """See Moments.after."""
        return last + self.period

    def between(self, last: int, now: int) -> Sequence[int]:
        """See Moments.between. Costs nothing, however many they are."""
        return range(last + self.period, now + 1, self.period)


class Once:
    """One moment, and never again."""

    def __init__(self, moment: int) -> None:
        self._moment = moment

    def after(self, last: int) -> int | None:
        """See Moments.after."""
        return self._moment if self._moment > last else None

    def between(self, last: int, now: int) -> Sequence[int]:
        """See Moments.between."""
        return [self._moment] if last < self._moment <= now else []


class WallClock:
    """A crontab, in its own time zone."""

    def __init__(self, cron: Any) -> None:
        self._zone: tzinfo = cron.tz
        self._minutes = frozenset(cron.minute)
        self._hours = frozenset(cron.hour)
        self._weekdays = frozenset(cron.day_of_week)
        self._days = frozenset(cron.day_of_month)
        self._months = frozenset(cron.month_of_year)

    def after(self, last: int) -> int | None:
        """See Moments.after."""
        return next(self._from(last), None)

    def between(self, last: int, now: int) -> Sequence[int]:
        """See Moments.between."""
        found: list[int] = []
        for moment in self._from(last):
            if moment > now:
                break
            found.append(moment)
        return found

    def _from(self, last: int) -> Iterator[int]:
        # From the day before: what falls into a gap at midnight comes the day after its date.
        day = when(last).astimezone(self._zone).date() - _DAY
        for _ in range(_YEARS):
            if self._has(day):
                for moment in _moments(self._zone, self._hours, self._minutes, day):
                    if moment > last:  # not what a day that was left out (Samoa, 2011) has moved onto the next one
                        last = moment
                        yield moment
            try:
                day += _DAY
            except OverflowError:
                return

    def _has(self, day: date) -> bool:
        return day.month in self._months and day.day in self._days and day.isoweekday() % 7 in self._weekdays


@lru_cache(maxsize=512)
def _moments(zone: tzinfo, hours: frozenset[int], minutes: frozenset[int], day: date) -> tuple[int, ...]:
    """Those of one day. Shared by all entries with these hours and minutes."""
    every = hours >= _EVERY_HOUR
    found: set[int] = set()
    for hour in hours:
        for minute in minutes:
            wall = datetime.combine(day, time(hour, minute), tzinfo=zone)
            first, second = micros(wall), micros(wall.replace(fold=1))
            if first == second:
                found.add(first)
            elif first < second:  # this time comes twice
                found.update((first, second) if every else (first,))
            elif not every:  # this time does not come
                found.add(first)
    return tuple(sorted(found))


class Estimated:
    """Whatever else says how long it takes from one moment to the next: solar, rounded intervals, one's own."""

    def __init__(self, schedule: Any) -> None:
        self._schedule = copy.copy(schedule)

    def after(self, last: int) -> int | None:
        """See Moments.after. The schedule is asked as if it were `last` now."""
        at = when(last)
        self._schedule.nowfun = lambda: at
        moment = micros(at + self._schedule.remaining_estimate(at))
        return moment if moment > last else None

    def between(self, last: int, now: int) -> Sequence[int]:
        """See Moments.between."""
        found: list[int] = []
        moment = self.after(last)
        while moment is not None and moment <= now:
            found.append(moment)
            moment = self.after(moment)
        return found
