"""Publishing: a call takes its key before its message leaves, and an equal call finds it taken.

This stands in for `app.send_task`, through which everything passes: `delay`, `apply_async`, beat, canvas, retries, and
`send_task` by name.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from celery import states
from celery.result import EagerResult
from celery.utils.time import maybe_make_aware

from locksmith.celery import marks
from locksmith.celery.entries import Entry
from locksmith.celery.honouring import foreign
from locksmith.celery.ledger import Ledger, Place
from locksmith.celery.marks import Mark
from locksmith.celery.options import Options, for_call
from locksmith.celery.plan import Plan, plan_of
from locksmith.celery.wiring import Wiring
from locksmith.errors import CellConflict, ConfigurationError, DuplicateTaskError, StoreError

logger: Final = logging.getLogger("locksmith.celery")
EXPIRY_MARGIN: Final = 60.0
"""Seconds that a key outlives its message's expiry: workers' clocks differ, and a late one still runs it."""
_CANVAS: Final = ("chain", "chord", "group_id", "link", "link_error")


@dataclass(slots=True)
class Call:
    """One call on its way out."""

    plan: Plan
    options: Options
    key: str
    id: str
    """The task id; empty until it is needed, which for most duplicates it never is."""
    again: bool
    """Whether this is the next message of a call that has begun already: a retry."""
    send: dict[str, Any]
    """The options of `send_task`."""
    name: str
    args: Any
    kwargs: Any
    slot: int = 0
    """Which of the places for queued calls it has, or looks to."""
    replaced: str | None = None
    """The id of the call whose place it took."""
    theirs: str | None = None
    """Its key in celery-singleton, where that is honoured."""

    @property
    def place(self) -> Place:
        """Where its entry is."""
        return self.plan.queue(self.key, self.slot)

    @property
    def insists(self) -> bool:
        """Whether it is published even where the store cannot be asked: a retry must not be lost for that."""
        return self.again or self.options.on_store_error == "run"

    @property
    def awaited(self) -> bool:
        """Whether somebody relies on this call's own id or on what comes after it, so that it needs an end."""
        return any(self.send.get(what) for what in _CANVAS)


@dataclass(slots=True)  # not frozen, which costs a microsecond for each duplicate
class Seen:
    """What was found out about a call before Celery prepared its message: it need not be done once more."""

    key: str
    slot: int
    entry: Entry | None
    free: bool
    """Whether nobody is there, or somebody whose run is over."""

    def can_be_taken(self, options: Options) -> bool:
        """Whether a call with these options may write its entry there."""
        return self.free or (options.replaces and self.entry is not None and self.entry.state == "queued")


class Publisher:
    """An application's `send_task`, with deduplication."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._app = wiring.app
        self._left: list[tuple[Place, str]] = []
        self._names = list(inspect.signature(wiring.publish).parameters)

    def __call__(self, name: str, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """See Celery.send_task. `singleton`: a dict with "on_duplicate" or "key" for this call.

        Raises DuplicateTaskError, StoreError, ConfigurationError: then nothing was published.
        """
        if more:
            options |= dict(zip(self._names[3:], more, strict=False))
        given = options.pop("singleton", None)
        if isinstance(given, Mark):
            return self._publish(name, args, kwargs, options, given)
        plan = plan_of(options.get("task_type") or self._known(name))
        if plan is None:
            if given is not None:
                raise ConfigurationError(f"singleton= is for tasks whose base is Singleton, and {name} is none here")
            return self._wiring.publish(name, args, kwargs, **options)
        return self._call(plan, given, name, args, kwargs, options)

    def fold(self, task: Any, args: Any, kwargs: Any) -> Any:
        """What a plain call gets that is a duplicate, before Celery has prepared anything for a message; else what has
        been found out, as the `singleton` of the same call by Celery's own way.

        None where that way has to judge for itself. Raises DuplicateTaskError, ConfigurationError.
        """
        plan = task._locksmith_plan()
        if not plan.options.queues or plan.by_queue or self._wiring.is_eager():
            return None
        if getattr(task, "_dump_pydantic_arguments", None) is not None:
            return None  # the key is over what Celery makes of the arguments
        try:
            if task.typing and (check := getattr(task, "__header__", None)) is not None:
                check(*(args or ()), **(kwargs or {}))
            key = plan.key_of_any(tuple(args or ()), kwargs or {})
            ledger = self._wiring.ledger()
            if self._left:
                self._undo_earlier(ledger)
            seen = look(ledger, plan, plan.options, key, plan.theirs(args, kwargs))
            if seen.entry is None or seen.can_be_taken(plan.options):
                return seen
        except (TypeError, StoreError):
            return None  # Celery says it better; and what a store that does not answer comes to is said below
        ledger.folds.add(key, seen.entry.id)
        return self._instead(plan.options, task.name, seen.entry, plan.result, task.ignore_result)

    def _known(self, name: str) -> Any:
        if self._app.finalized or self._app.autofinalize:
            return self._app.tasks.get(name)
        return self._app._tasks.get(name)

    def _call(self, plan: Plan, given: Any, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        seen = given if isinstance(given, Seen) else None
        settings, key = for_call(plan.options, given) if seen is None else (plan.options, seen.key)
        task_id = options.get("task_id")
        mark = marks.of_own_retry(plan.task, task_id)
        if mark is not None:
            # Not from the arguments: the task may have changed them.
            key = mark.key
        elif key is None:
            key = plan.key_of(args, kwargs, options)
        again = mark is not None or bool(options.get("retries"))
        call = Call(plan, settings, key, task_id or "", again, options, name, args, kwargs, mark.slot if mark else 0)
        call.theirs = None if again else plan.theirs(args, kwargs)
        if not settings.queues:
            return self._publish(name, args, kwargs, options, Mark(key))
        try:
            ledger = self._wiring.ledger()
            self._undo_earlier(ledger)
            taken = self._take_again(ledger, call) if again else self._take(ledger, call, seen)
        except StoreError as error:
            if not call.insists:
                raise
            logger.warning("%s is published without its key %r: %s", name, key, error)
            return self._publish(name, args, kwargs, options, Mark(key))
        if isinstance(taken, Entry):
            ledger.folds.add(key, taken.id)
            return self._duplicate(call, taken)
        try:
            result = self._publish(name, args, kwargs, options, Mark(key, slot=call.slot, took=taken))
        except BaseException:
            if taken and not call.again:
                self._left.append((call.place, call.id))
                with suppress(StoreError):
                    self._undo_earlier(ledger)
            raise
        if call.replaced is not None:
            _end_replaced(ledger, call, call.replaced)
        return result

    def _undo_earlier(self, ledger: Ledger) -> None:
        """Give back what calls have taken that were not published after all; later, where the store does not answer."""
        while self._left:
            place, task_id = self._left[-1]
            # Only as it was published: if the message got out after all, a worker may have begun.
            ledger.erase_of(place, task_id, begun=False)
            with suppress(ValueError):
                self._left.remove((place, task_id))

    def _take(self, ledger: Ledger, call: Call, seen: Seen | None) -> Entry | bool:
        """Take the key: True, or the entry of whoever has it."""
        while True:
            seen = seen or look(ledger, call.plan, call.options, call.key, call.theirs)
            call.slot = seen.slot
            if (
                seen.entry is not None
                and not seen.free
                and (seen.entry.id == call.id or not seen.can_be_taken(call.options))
            ):
                return seen.entry
            if not call.id:
                call.id = call.send["task_id"] = str(uuid4())
            if self._write(ledger, call, seen.entry):
                call.replaced = None if seen.free or seen.entry is None else seen.entry.id
                return True
            seen = None

    def _take_again(self, ledger: Ledger, call: Call) -> bool:
        """Take the key for a retry, which has it; False where it goes on without."""
        if call.options.phase == "until_expired":
            return False
        while True:
            found = ledger.read(call.place)
            if found is not None and found.id != call.id and not ledger.is_vacant(found):
                return False  # a call that has begun is not a duplicate of one that came later
            if found is not None and found.id == call.id:
                call.theirs = found.theirs  # not from the arguments, as above
            if self._write(ledger, call, found):
                return True

    def _write(self, ledger: Ledger, call: Call, over: Entry | None) -> bool:
        try:
            entry = ledger.write(call.place, call.plan.queued(call.id, call.theirs), over, ttl=self._kept(call))
            if call.theirs is not None:
                before = None if over is None else over.id
                if not ledger.theirs.take(call.theirs, call.id, before, call.options.queue_ttl):
                    ledger.erase(call.place, entry)
                    return False
        except CellConflict:
            return False
        except StoreError:
            if not call.insists:
                self._left.append((call.place, call.id))  # it may have been written, with the answer lost
            raise
        return True

    def _kept(self, call: Call) -> float | None:
        """Seconds for which the key is kept, where anything but a worker may end that."""
        if call.options.phase == "until_expired":
            return call.options.ttl
        bounds = []
        if call.options.queue_ttl is not None:
            delay = call.send.get("countdown") or self._seconds_until(call.send.get("eta")) or 0.0
            bounds.append(call.options.queue_ttl + max(0.0, delay))
        if (left := self._seconds_until(call.send.get("expires"))) is not None:
            bounds.append(max(0.0, left) + EXPIRY_MARGIN)
        return min(bounds, default=None)

    def _seconds_until(self, moment: object) -> float | None:
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        if isinstance(moment, datetime):
            aware = maybe_make_aware(moment, self._app.timezone)
            return float((aware - self._app.now()).total_seconds())
        return float(moment) if isinstance(moment, int | float) else None

    def _duplicate(self, call: Call, holder: Entry) -> Any:
        how = call.options.on_duplicate
        if how != "raise" and call.awaited and holder.id != call.id:
            # Its own id, links, chain or chord need an end, which a worker brings about: see running.py.
            mark = Mark(call.key, after=holder.id, skip=how == "skip", slot=call.slot)
            return self._publish(call.name, call.args, call.kwargs, call.send, mark)
        make: Callable[[str], Any] = call.send.get("result_cls") or self._app.AsyncResult
        return self._instead(call.options, call.name, holder, make, call.send.get("ignore_result"))

    def _instead(
        self, options: Options, name: str, holder: Entry, make: Callable[[str], Any], ignore_result: bool | None
    ) -> Any:
        """What a duplicate gets of which nothing is published."""
        if options.on_duplicate == "raise":
            raise DuplicateTaskError(
                f"an equal call of {name} is {holder.state}, as task {holder.id}: leave it to that one", holder.id
            )
        if options.on_duplicate == "skip":
            return EagerResult(None, None, states.IGNORED)  # type: ignore[arg-type]  # it has no id
        result = make(holder.id)
        result.ignored = ignore_result  # as Celery does: else get() waits for a result that nobody stores
        return result

    def _publish(self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], mark: Mark) -> Any:
        headers = {**(options.get("headers") or {}), marks.HEADER: mark.dump()}
        return self._wiring.publish(name, args, kwargs, **{**options, "headers": headers})


def look(ledger: Ledger, plan: Plan, options: Options, key: str, theirs: str | None = None) -> Seen:
    """Where a call with this key would go: the first place that is free, else the one whose call it meets.

    That is the first, or where it replaces, the first one that no worker has begun.
    """
    if theirs is not None:
        return _look_there(ledger, plan, key, theirs)
    met: list[Seen] = []
    for slot in range(options.max_queued):
        found = ledger.read(plan.queue(key, slot))
        if found is None or ledger.is_vacant(found):
            return Seen(key, slot, found, free=True)
        met.append(Seen(key, slot, found, free=False))
    return next((seen for seen in met if seen.can_be_taken(options)), met[0])


def _look_there(ledger: Ledger, plan: Plan, key: str, theirs: str) -> Seen:
    """The same with the lock of celery-singleton, which comes first: its processes see nothing else."""
    holder, found = ledger.theirs.holder(theirs), ledger.read(plan.queue(key))
    if holder is not None and (found is None or found.id != holder):
        return Seen(key, 0, foreign(holder, plan.name), free=False)
    # Gone there: a process of theirs has run it, or it has expired.
    ended = holder is None and found is not None and found.state == "queued" and found.theirs is not None
    return Seen(key, 0, found, free=found is None or ended or ledger.is_vacant(found))


def places_of(plan: Plan, mark: Mark) -> Sequence[Place]:
    """Where a call of this task may have entries."""
    places = [plan.queue(mark.key, mark.slot)] if plan.options.queues else []
    return [*places, plan.run(mark.key)] if plan.options.runs_apart else places


def _end_replaced(ledger: Ledger, call: Call, task_id: str) -> None:
    """A replaced call ends for good when a worker gets its message; nobody need wait for its result until then."""
    try:
        ledger.bury(task_id, call.id)
    except StoreError as error:
        logger.warning("%s was replaced by %s, and runs as well if it comes later: %s", task_id, call.id, error)
    if call.plan.task.ignore_result:
        return
    try:
        call.plan.task.backend.mark_as_revoked(task_id, f"task {call.id} has replaced it")
    except Exception as error:  # noqa: BLE001 - whatever a backend raises: the new call is published, and this one ends later
        logger.warning("%s was replaced, and its result is stored later: %s", task_id, error)
