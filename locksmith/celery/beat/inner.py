"""A scheduler within: where the entries come from that are not in the Celery configuration, such as Django's database.

It is made when a beat begins to lead, never by a standby, since making one writes (django-celery-beat puts the entries
of the configuration into its tables). Election, claims and moments are ours; it is told what was sent, for people.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from celery.utils.imports import symbol_by_name

from locksmith.celery.beat.moments import SECOND, micros, when

_CHANGED_EVERY: Final = 5.0
"""Seconds between two looks whether its entries have changed: those of django-celery-beat itself."""
_LONGEST_AGO: Final = 31 * 86_400 * SECOND
"""Microseconds: what was due longer ago was not missed because of a move to locksmith."""


class Inner:
    """One scheduler of another kind."""

    def __init__(self, path: str, app: Any) -> None:
        self._scheduler: Any = symbol_by_name(path)(app=app)
        self._asked = time.monotonic()

    def entries(self) -> Iterable[Any]:
        """Its entries as they are now."""
        model = getattr(self._scheduler, "Model", None)
        if model is None:
            return list(self._scheduler.schedule.values())
        # Not its schedule: that leaves out crontabs that are not due within two hours of its own reckoning.
        rows = model._default_manager.filter(enabled=True)
        return [self._scheduler.Entry(row, app=self._scheduler.app) for row in rows]

    def changed(self) -> bool:
        """Whether they have changed since this was asked last."""
        if time.monotonic() - self._asked < _CHANGED_EVERY:
            return False
        self._asked = time.monotonic()
        ask = getattr(self._scheduler, "schedule_changed", None)
        return ask is not None and bool(ask())

    def sent(self, entry: Any) -> None:
        """A fire of this entry was sent: what its row counts and shows is kept up."""
        again = next(entry)
        if hasattr(again, "save"):
            again.save()
        again.is_due()  # where one that is to run once is put out of action


def may_fire(entry: Any, moment: int) -> bool:
    """Whether an entry wants to be fired for this moment: one of a database may be off, or not yet on, or over."""
    row = getattr(entry, "model", None)
    if row is None:
        return True
    at = when(moment)
    begun = getattr(row, "start_time", None) is None or at >= row.start_time
    over = getattr(row, "expires", None) is not None and at >= row.expires
    spent = is_single(entry) and row.total_run_count > 0
    return bool(row.enabled) and begun and not over and not spent


def is_single(entry: Any) -> bool:
    """Whether an entry of a database is to be fired once and then never."""
    return bool(getattr(getattr(entry, "model", None), "one_off", False))


def is_spent(entry: Any, last: int, count: int) -> bool:
    """Whether an entry that is to be fired once was, although its row does not know: whoever sent it died before that.

    A row that was changed since then, to be fired once more, is another matter.
    """
    changed = getattr(getattr(entry, "model", None), "date_changed", None)
    if not is_single(entry) or count == 0 or changed is None or changed.tzinfo is None:
        return False
    return last > micros(changed)


def last_run(entry: Any, now: int) -> int:
    """Where an entry begins that no beat of ours has seen: at its last run, if a database knows of one."""
    last = getattr(entry, "last_run_at", None)
    if getattr(entry, "model", None) is None or last is None or last.tzinfo is None:
        return now
    return min(max(micros(last), now - _LONGEST_AGO), now)
