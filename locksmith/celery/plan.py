"""What is fixed about a Singleton task when it is registered: its options, and how its calls get their keys."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

from celery import Task

from locksmith.celery import incarnation
from locksmith.celery.entries import Entry, here, host_clock
from locksmith.celery.ledger import Place
from locksmith.celery.options import Options, key_of_task, key_of_theirs, read_options
from locksmith.celery.queues import by_queue, queue_of_call, queue_of_delivery
from locksmith.errors import ConfigurationError

_ATTRIBUTE = "_locksmith_plan"


class Plan:
    """One task's. Raises ConfigurationError for settings that cannot work."""

    __slots__ = ("_own_result", "_theirs_of", "by_queue", "key_in", "key_of_any", "name", "options", "task")

    def __init__(self, task: Any, conf: Mapping[str, Any]) -> None:
        self.task = task
        self.name: str = task.name
        self.options: Options = read_options(task, conf)
        self.by_queue = by_queue(task.singleton_scope)
        """Whether equal calls in two queues are none."""
        self.key_of_any = key_of_task(type(task), self.name, conf)
        self.key_in = lru_cache(maxsize=256)(partial(key_of_task, type(task), self.name, conf))
        """What gives calls in the queue of this name their keys, where that counts."""
        self._theirs_of = key_of_theirs(task, self.name, conf)
        if self._theirs_of is not None and (self.options.phase != "until_executed" or self.options.max_queued > 1):
            raise ConfigurationError(
                'singleton_compat is for tasks as celery-singleton has them: phase "until_executed", one call of a key'
            )
        self._own_result = type(task).AsyncResult is not Task.AsyncResult

    def key_of(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> str:
        """The key of a call that is sent with these options."""
        args, kwargs = tuple(args or ()), kwargs or {}
        if not self.by_queue:
            return self.key_of_any(args, kwargs)
        return self.key_in(queue_of_call(self.task.app, self.name, args, kwargs, options))(args, kwargs)

    def key_of_arrival(self, args: Any, kwargs: Mapping[str, Any], info: Mapping[str, Any] | None) -> str:
        """The key of a call whose message has none; `info`: how it got here."""
        if not self.by_queue:
            return self.key_of_any(tuple(args), kwargs)
        return self.key_in(queue_of_delivery(self.task.app, info))(tuple(args), kwargs)

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
