"""One walk of a scanner over its work: what is neither queued nor running is enqueued, while there is room for it.

What is queued or runs, the keys of Singleton say: they are taken by publishing, and free when a call has ended or its
worker is dead. So an item whose worker died is found by the next walk as if it were new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from celery.canvas import Signature

from locksmith.adapters.keys import KeyOf
from locksmith.celery.options import key_by
from locksmith.celery.plan import Plan, plan_of
from locksmith.errors import ConfigurationError, DuplicateTaskError
from locksmith.metrics import queues

_PHASE: Final = "until_executed"


@dataclass(slots=True)
class Walk:
    """What one walk came to."""

    found: int = 0
    """Items that were looked at."""
    enqueued: int = 0
    """Of them, those that were neither queued nor running."""
    deep: bool = False
    """Whether it ended before the work did, because the queue had enough."""


@dataclass(frozen=True, slots=True)
class Item:
    """A call that a scanner may enqueue."""

    signature: Signature
    plan: Plan

    @property
    def arguments(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """As the call gets them."""
        return tuple(self.signature.args or ()), self.signature.kwargs or {}


class Walker:
    """How the items of one scanner become calls. Raises ConfigurationError for what cannot be enqueued once."""

    def __init__(self, app: Any, task: Any, key: str | Callable[..., str] | None, limit: int | None) -> None:
        self.app = app
        self._task = task
        self._key = key
        self._limit = limit
        self._keys: dict[str, KeyOf] = {}
        self._room: dict[str, int] = {}
        if task is not None:
            self._plan(task)

    def walk(self, work: Iterable[object], check: Callable[[], None]) -> Walk:
        """Go through the work, as far as there is room; `check` is called before each item, and may raise."""
        done = Walk()
        if any(self._look(queue) <= 0 for queue in tuple(self._room)):
            done.deep = True  # as at the end of the last walk: nobody is asked for work
            return done
        items = iter(work)
        try:
            for one in items:
                check()
                done.found += 1
                item = self._item(one)
                queue = self._queue(item)
                if queue is not None and self._full(queue):
                    done.deep = True
                    break
                if self._enqueue(item):
                    done.enqueued += 1
                    if queue is not None:
                        self._room[queue] -= 1
        finally:
            with suppress(AttributeError):
                items.close()  # type: ignore[attr-defined]  # a generator, which may have a transaction open
        return done

    # Items.

    def _item(self, one: object) -> Item:
        if isinstance(one, Signature):
            if type(one) is not Signature or one.get("subtask_type"):
                raise ConfigurationError(f"a scanner enqueues calls of one task each, not {one!r}: start it in a task")
            task = self.app.tasks.get(one.task)
            if task is None:
                raise ConfigurationError(f"a scanner has to know the tasks it enqueues, and {one.task} is none here")
            return Item(one, self._plan(task))
        if self._task is None:
            raise ConfigurationError(f"a scanner without task= yields signatures such as task.s(1), not {one!r}")
        if isinstance(one, tuple):
            signature = self._task.s(*one)
        else:
            signature = self._task.s(**one) if isinstance(one, dict) else self._task.s(one)
        return Item(signature, self._plan(self._task))

    def _plan(self, task: Any) -> Plan:
        plan = plan_of(task)
        if plan is None or plan.options.phase != _PHASE:
            raise ConfigurationError(
                f"a scanner knows what is queued or runs by the keys of Singleton: give {task.name} base=Singleton, "
                f'with the phase "{_PHASE}"'
            )
        return plan

    def _enqueue(self, item: Item) -> bool:
        args, kwargs = item.arguments
        # To be skipped would be another message, where something is linked to it.
        how: dict[str, Any] = {"on_duplicate": "raise"}
        if self._key is not None:
            name = item.plan.name
            key_of = self._keys.get(name)
            if key_of is None:
                key_of = self._keys[name] = key_by(type(item.plan.task), name, self._key)
            how["key"] = key_of(args, kwargs)
        try:
            item.signature.apply_async(singleton=how, add_to_parent=False)
        except DuplicateTaskError:
            return False
        return True

    # Queues.

    def _queue(self, item: Item) -> str | None:
        if self._limit is None:
            return None
        task, (args, kwargs) = item.plan.task, item.arguments
        given = {**task._get_exec_options(), **item.signature.options}
        routed = self.app.amqp.router.route(given, task.name, args, kwargs).get("queue")
        if routed is None:
            raise ConfigurationError(f"{task.name} is routed to no queue by name, so limit= cannot look at its depth")
        return str(getattr(routed, "name", routed))

    def _full(self, queue: str) -> bool:
        # Asked again only when what there was room for has been enqueued.
        return self._room.get(queue, 0) <= 0 and self._look(queue) <= 0

    def _look(self, queue: str) -> int:
        with self.app.connection_for_read() as connection:
            (found,) = queues.look(connection, [queue])
        self._room[queue] = (self._limit or 0) - found.messages
        return self._room[queue]
