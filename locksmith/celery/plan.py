"""What is fixed about a Singleton task when it is registered: its options, and how its calls get their keys."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from celery import Task

from locksmith.celery import incarnation
from locksmith.celery.entries import Entry, here, host_clock
from locksmith.celery.ledger import Place
from locksmith.celery.options import Options, key_of_task, key_of_theirs, read_options
from locksmith.errors import ConfigurationError

_ATTRIBUTE = "_locksmith_plan"


class Plan:
    """One task's. Raises ConfigurationError for settings that cannot work."""

    __slots__ = ("_own_result", "_theirs_of", "key_of", "name", "options", "task")

    def __init__(self, task: Any, conf: Mapping[str, Any]) -> None:
        self.task = task
        self.name: str = task.name
        self.options: Options = read_options(task, conf)
        self.key_of = key_of_task(type(task), self.name, conf)
        self._theirs_of = key_of_theirs(task, self.name, conf)
        if self._theirs_of is not None and (self.options.phase != "until_executed" or self.options.max_queued > 1):
            raise ConfigurationError(
                'singleton_compat is for tasks as celery-singleton has them: phase "until_executed", one call of a key'
            )
        self._own_result = type(task).AsyncResult is not Task.AsyncResult

    def theirs(self, args: Any, kwargs: Any) -> str | None:
        """The key that a call has in celery-singleton, where its locks are honoured."""
        return None if self._theirs_of is None else self._theirs_of(args, kwargs)

    def result(self, task_id: str) -> Any:
        """The AsyncResult of a call."""
        task = self.task
        if self._own_result:
            return task.AsyncResult(task_id)
        # What Task.AsyncResult does, without the way there.
        return task.app.AsyncResult(task_id, task.backend)

    def queue(self, key: str, slot: int = 0) -> Place:
        """Where a published call has its entry; one of several places where several may be queued."""
        return Place(key, f"queue{slot}" if slot else "queue")

    def run(self, key: str) -> Place:
        """Where a running call has its entry, in the phases that exclude running apart from queueing."""
        return Place(key, "run")

    def queued(self, task_id: str, theirs: str | None = None) -> Entry:
        """The entry of a call that is published."""
        kept = self.options.phase == "until_expired"
        return Entry(task_id, self.name, "kept" if kept else "queued", here(), time.time(), theirs=theirs)

    def running(self, task_id: str, theirs: str | None = None) -> Entry:
        """The entry of a call that begins, here and now."""
        return Entry(
            task_id, self.name, "running", here(), time.time(),
            incarnation.current, bool(self.task.acks_late), host_clock(), theirs=theirs,
        )  # fmt: skip


def plan_of(task: Any) -> Plan | None:
    """The plan of a Singleton task; None for any other, and for none."""
    find = getattr(task, _ATTRIBUTE, None)
    found = None if find is None else find()
    return found if isinstance(found, Plan) else None
