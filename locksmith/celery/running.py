"""Running: in the process that runs a task, what happens before and after its body.

Whatever publishing has decided, a message that arrives is judged once more here, by compare-and-set: messages are
delivered twice, published by those who know nothing of keys, and outlive keys that were cleared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, TypeVar

from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from locksmith.celery import incarnation, marks
from locksmith.celery.entries import Entry, here
from locksmith.celery.following import follow
from locksmith.celery.ledger import Ledger, Place
from locksmith.celery.marks import Mark
from locksmith.celery.plan import Plan
from locksmith.celery.putting_off import end_as_duplicate, put_off
from locksmith.celery.wiring import wiring_of
from locksmith.errors import CellConflict, StoreError

R = TypeVar("R")

logger: Final = logging.getLogger("locksmith.celery")
_RELEASE_PAUSES: Final = (0.1, 0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Held:
    """The entry under which a call runs."""

    ledger: Ledger
    place: Place
    entry: Entry


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that a worker is about to run."""

    plan: Plan
    request: Any
    mark: Mark
    marked: bool
    """Whether its publisher took the key, or said why not."""
    theirs: str | None = None
    """Its key in celery-singleton, where that is honoured and its publisher may be one of its processes."""

    @property
    def id(self) -> str:
        """The task id."""
        return str(self.request.id)

    @property
    def queue(self) -> Place:
        """Where publishing has, or would have, its entry."""
        return self.plan.queue(self.mark.key, self.mark.slot)


def guard(plan: Plan, request: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], body: Callable[..., R]) -> R:
    """Run a task's body under its key. Raises what the body raises; Ignore where it is not to run, here or now."""
    mark = marks.of_request(request)
    try:
        theirs = plan.theirs(args, kwargs) if mark is None else None
        key = "" if mark else plan.key_of_arrival(args, kwargs, getattr(request, "delivery_info", None))
        arrival = Arrival(plan, request, mark or Mark(key), mark is not None, theirs)
    except TypeError:
        return body(*args, **kwargs)  # arguments that do not fit: it raises the same
    ledger = wiring_of(plan.task.app).ledger()
    try:
        if mark is None and plan.options.max_queued > 1:
            arrival = replace(arrival, mark=replace(arrival.mark, slot=_slot(ledger, arrival)))
        if arrival.mark.after is not None:
            ended, result = follow(plan, request, arrival.mark, ledger)
            if ended:
                return result  # type: ignore[no-any-return]  # what the equal call returned
        held = _begin(ledger, arrival)
    except StoreError as error:
        held = None
        _without_store(arrival, error)
    except Ignore:
        raise
    except Exception:
        # It ends here, as a failure: what publishing has taken for it is not needed any more.
        if plan.options.queues:
            _surely(lambda: _ignoring(ledger.erase_of(arrival.queue, arrival.id, by=here())))
        raise
    return body(*args, **kwargs) if held is None else _run(held, plan, lambda: body(*args, **kwargs))


def _without_store(arrival: Arrival, error: StoreError) -> None:
    plan = arrival.plan
    if plan.options.on_store_error == "fail":
        logger.warning("%s[%s] is put off: %s", plan.name, arrival.id, error)
        put_off(plan, arrival.request, arrival.mark)
    logger.warning("%s[%s] runs without its key %r: %s", plan.name, arrival.id, arrival.mark.key, error)


def _run(held: Held, plan: Plan, body: Callable[[], R]) -> R:
    held.ledger.began(held.entry)
    try:
        result = body()
    except Reject as error:
        held.ledger.ended(held.entry)
        _rejected(held, plan, requeue=bool(getattr(error, "requeue", False)))
        raise
    except Exception:
        held.ledger.ended(held.entry)
        _end(held)
        raise
    except BaseException:
        # The process is about to end; its parent will see what becomes of the message.
        held.ledger.ended(held.entry)
        raise
    held.ledger.ended(held.entry)
    _end(held)
    return result


# Beginning.


def _begin(ledger: Ledger, arrival: Arrival) -> Held | None:
    """Take the key for running; None where this phase keeps none. Raises Ignore, DuplicateTaskError, StoreError."""
    worker = incarnation.current
    if worker is not None and ledger.presence(worker) is None:
        # Nobody would know that we run: an equal call would take the key of a worker that looks dead.
        logger.warning("%s[%s] is put off: this worker has not told the store yet that it lives",
                       arrival.plan.name, arrival.id)  # fmt: skip
        put_off(arrival.plan, arrival.request, arrival.mark)
    options, key = arrival.plan.options, arrival.mark.key
    if options.runs_under_queue:
        return _enter(ledger, arrival, arrival.queue, apart=False)
    held = _enter(ledger, arrival, arrival.plan.run(key), apart=True) if options.runs_apart else None
    if options.queues:
        try:
            _leave_queue(ledger, arrival)
        except BaseException:
            if held is not None:
                _end(held)
            raise
    return held


def _enter(ledger: Ledger, arrival: Arrival, place: Place, *, apart: bool) -> Held:
    while True:
        found = ledger.read(place)
        if found is not None and found.id == arrival.id:
            _judge_again(ledger, arrival, found)
        elif arrival.mark.copy:
            raise Ignore("another delivery of this call has run")
        elif found is not None and not ledger.is_vacant(found, redelivered=not apart):
            _refuse(ledger, arrival, found, apart=apart)
        elif found is None and not apart:
            _refuse_replaced(ledger, arrival)
        try:
            theirs = arrival.theirs if found is None or found.id != arrival.id else found.theirs
            entry = ledger.write(place, arrival.plan.running(arrival.id, theirs), found)
        except CellConflict:
            continue
        return Held(ledger, place, entry)


def _judge_again(ledger: Ledger, arrival: Arrival, found: Entry) -> None:
    """The entry is this call's own: is this the delivery that was waited for, or one too many?"""
    if found.state == "queued":
        if arrival.mark.copy:
            raise Ignore("another message of this call is on its way")
    elif found.state == "running" and not ledger.is_over(found, mine=True):
        if found.late:
            # If that run dies, nobody but this message may be left to run it again.
            put_off(arrival.plan, arrival.request, replace(arrival.mark, copy=True))
        raise Ignore("another delivery of this call is running")


def _refuse(ledger: Ledger, arrival: Arrival, found: Entry, *, apart: bool) -> NoReturn:
    if apart and arrival.plan.options.queues:
        _refuse_replaced(ledger, arrival)  # now, or those would be many that wait for their end
    if apart and arrival.plan.options.on_conflict == "wait":
        put_off(arrival.plan, arrival.request, arrival.mark)
    if arrival.mark.after is not None:
        # The call that it followed has left no result, and another one has the key by now: it follows that one.
        put_off(arrival.plan, arrival.request, Mark(arrival.mark.key, after=found.id, slot=arrival.mark.slot))
    end_as_duplicate(arrival.plan, arrival.request, found.id)


def _leave_queue(ledger: Ledger, arrival: Arrival) -> None:
    """Running begins: the phases that end here give the queue's key back; one that lasts longer sees that it has it."""
    plan, place = arrival.plan, arrival.queue
    if arrival.marked:
        if plan.options.phase != "until_expired" and not ledger.erase_of(place, arrival.id):
            _refuse_replaced(ledger, arrival)
        return
    # Published by somebody who knows nothing of keys.
    found = ledger.read(place)
    if found is not None and found.id != arrival.id:
        end_as_duplicate(plan, arrival.request, found.id)
    if found is None and plan.options.phase == "until_expired":
        try:
            ledger.write(place, plan.queued(arrival.id), None, ttl=plan.options.ttl)
        except CellConflict:
            _leave_queue(ledger, arrival)


def _refuse_replaced(ledger: Ledger, arrival: Arrival) -> None:
    """End a call whose place in the queue another one has taken. Not one that was begun before: that had left it."""
    info = getattr(arrival.request, "delivery_info", None) or {}
    if not arrival.mark.took or info.get("redelivered") or arrival.request.retries:
        return
    found = ledger.read(arrival.queue)
    holder = ledger.buried(arrival.id) if found is None else found.id
    if holder is not None and holder != arrival.id:
        end_as_duplicate(arrival.plan, arrival.request, holder)


def _slot(ledger: Ledger, arrival: Arrival) -> int:
    """The place for a call that nobody has given one: its own, or the first that is free."""
    plan, free = arrival.plan, 0
    for slot in reversed(range(plan.options.max_queued)):
        found = ledger.read(plan.queue(arrival.mark.key, slot))
        if found is not None and found.id == arrival.id:
            return slot
        if found is None or ledger.is_vacant(found):
            free = slot
    return free


# Ending.


def _rejected(held: Held, plan: Plan, *, requeue: bool) -> None:
    if requeue and plan.task.acks_late:
        if plan.options.runs_under_queue:
            _surely(lambda: held.ledger.requeue(held.place, held.entry.id, lambda: plan.queued(held.entry.id)))
            return
    elif plan.options.runs_under_queue:
        # Also the entry of a retry whose message could not be published: Celery then rejects.
        _surely(lambda: _ignoring(held.ledger.erase_of(held.place, held.entry.id)))
        return
    _end(held)


def _ignoring(_: object) -> None: ...


def _end(held: Held) -> None:
    _surely(lambda: _give_back(held))


def _give_back(held: Held) -> None:
    if held.ledger.erase(held.place, held.entry):
        return
    found = held.ledger.read(held.place)
    if found is None or found.id != held.entry.id:
        logger.warning(
            "%s[%s] had lost its key %r while it ran: another call may have run beside it",
            held.entry.task, held.entry.id, held.place.key,
        )  # fmt: skip
    # Else it is queued again: a retry, under the same id.


def _surely(do: Callable[[], None]) -> None:
    try:
        _persistently(do)
    except SoftTimeLimitExceeded:
        _persistently(do)  # it came in the middle of giving back
        raise


def _persistently(do: Callable[[], None]) -> None:
    for pause in (*_RELEASE_PAUSES, None):
        try:
            do()
            return
        except StoreError as error:
            if pause is None:
                logger.warning(
                    "a key could not be given back, and is free when this worker's next beats say so: %s", error
                )
                return
        time.sleep(pause)
