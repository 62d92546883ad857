"""chunkify_task: a Celery task that does a large job chunk by chunk, one message after the other."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from inspect import BoundArguments, Parameter
from typing import Any, Final, NoReturn, TypeVar

from celery import Task
from celery._state import get_current_task
from celery.exceptions import Ignore, Reject, Retry

from locksmith import pacing
from locksmith.adapters.chunk_calls import PARAMETER, rules_of, stand_in, without_chunk
from locksmith.adapters.keys import KeyOf, key_maker, signature_of
from locksmith.celery import chunk_marks
from locksmith.celery.chunk_marks import HEADER, Step
from locksmith.celery.chunk_types import BaseChunk, Chunk
from locksmith.celery.singleton import Singleton
from locksmith.celery.wiring import client_of
from locksmith.errors import ConfigurationError
from locksmith.metrics.queues import look
from locksmith.positions import Walk
from locksmith.recipes import chunk_list
from locksmith.recipes.chunk_job import ChunkJob
from locksmith.recipes.chunk_record import OVER, Claimed, Record
from locksmith.recipes.chunk_worker import ChunkWorker, Rules
from locksmith.recipes.permits import check_count, check_seconds
from locksmith.recipes.rates import RateRecipe
from locksmith.runtime import drive

F = TypeVar("F", bound=Callable[..., Any])

logger: Final = logging.getLogger("locksmith.celery")
ASKED: Final = 5.0
"""Seconds after which a message comes back that found the queue deep, or its job paused."""
KEEP: Final = 7 * 86_400.0


def chunkify_task(
    *,
    sleep_timeout: float,
    initial_chunk: BaseChunk[Any, Any] | Callable[..., BaseChunk[Any, Any]],
    chunk_class: type[BaseChunk[Any, Any]] = Chunk,
    key: str | Callable[..., str] | None = None,
    rate: str | tuple[str, ...] | None = None,
    max_waiting: int | None = None,
    queue: str | None = None,
    retries: int = 3,
    retry_pause: float = 1.0,
    ttl: float | None = None,
) -> Callable[[F], F]:
    """Under `@app.task`: each message runs one chunk, in the parameter `chunk`, and publishes the next message.

    `sleep_timeout`: seconds from the end of a chunk to the earliest start of the next. `initial_chunk`: where the job
    starts, or a callable of the call's arguments; a call may give its own as `chunk=`. `chunk_class`: what a chunk that
    came as JSON is read as.

    Calls of the task with the same arguments (or the same `key`, a template or callable as in run_once) are one job: a
    second call while it runs joins it, one after its end starts it anew. A chunk that raised is begun again, `retries`
    times after growing pauses from `retry_pause` seconds on; then the job stops, until the task is called again.

    `rate`: chunks of one job in a time, as "10/m". `max_waiting`: no chunk is begun while more messages than that wait
    in `queue` (by default the queue of this task). `ttl`: seconds after which a worker that died is succeeded.

    Called as a function, and with task_always_eager, it runs chunk after chunk at once, without a store, and returns
    what the last one returned. Raises ConfigurationError, also where it decorates.
    """
    check_seconds("sleep_timeout", sleep_timeout)
    if max_waiting is not None and max_waiting != 0:
        check_count("max_waiting", max_waiting, most=2**31)
    if not isinstance(initial_chunk, BaseChunk) and not callable(initial_chunk):
        raise ConfigurationError(f"initial_chunk is a chunk, or a callable that returns one, not {initial_chunk!r}")
    rates = () if rate is None else pacing.parse((rate,) if isinstance(rate, str) else tuple(rate))
    one_chain = functools.partial(Rules, waits=False)
    checked = rules_of(1, retries, retry_pause, ttl)
    rules = one_chain(checked.most, checked.retries, checked.retry_pause, checked.ttl)

    def decorate(fn: F) -> F:
        plan = Chunking(fn, initial_chunk, chunk_class, key, rules, sleep_timeout, rates, max_waiting, queue)

        @functools.wraps(fn)
        def run(*args: Any, **kwargs: Any) -> Any:
            return plan.run(get_current_task(), args, kwargs)

        run.__signature__ = plan.seen  # type: ignore[attr-defined]  # functions may have one
        run.locksmith_chunking = plan  # type: ignore[attr-defined]  # found by `plan_of`
        return run  # type: ignore[return-value]  # it takes what the function takes

    return decorate


class Chunking:
    """What is fixed about one chunked task. Raises ConfigurationError."""

    def __init__(
        self, fn: Callable[..., Any], initial: Any, chunk_class: type[BaseChunk[Any, Any]], key: Any, rules: Rules,
        sleep: float, rates: tuple[pacing.Rate, ...], max_waiting: int | None, queue: str | None,
    ) -> None:  # fmt: skip
        self.fn = fn
        self.rules = rules
        self.sleep = sleep
        self.rates = rates
        self.max_waiting = max_waiting
        self.queue = queue
        self._initial = initial
        self._class = chunk_class
        self._key = key
        self._full = signature_of(fn)
        self._open = without_chunk(fn, self._full)
        # Callers may give a chunk; Celery refuses calls that do not fit the signature.
        given = self._full.parameters[PARAMETER].replace(kind=Parameter.KEYWORD_ONLY, default=None)
        others = [*self._open.parameters.values()]
        last = [each for each in others if each.kind is each.VAR_KEYWORD]
        self.seen = self._full.replace(parameters=[*[each for each in others if each not in last], given, *last])
        self._keys: dict[bool, KeyOf] = {}

    def run(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One message, or the whole job where this is none."""
        if isinstance(task, Singleton) and plan_of(task) is self:
            raise ConfigurationError(
                f"{task.name} is chunked: Singleton would fold each message into the one before it"
            )
        request: Any = task.request_stack.top if plan_of(task) is self else None
        if request is None or request.called_directly or request.is_eager or not request.id:
            return self._run_it_all(args, kwargs)
        bound = bool(args) and args[0] is task
        return Message(self, task, request, args[1:] if bound else args, kwargs, args[:1] if bound else ()).run()

    def _run_it_all(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        chunk, result = self.first(args, kwargs), None
        while not chunk.is_exhausted:
            result = self.call(args, without(kwargs), chunk)
            chunk = chunk.next()
        return result

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], chunk: BaseChunk[Any, Any]) -> Any:
        """Call the function, wherever among its parameters the chunk stands. Raises what it raises."""
        bound = self._open.bind(*args, **kwargs)
        whole = BoundArguments(self._full, {**bound.arguments, PARAMETER: chunk})
        return self.fn(*whole.args, **whole.kwargs)

    def first(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BaseChunk[Any, Any]:
        """The chunk at which a call starts. Raises ConfigurationError."""
        given = kwargs.get(PARAMETER)
        if given is None:
            given = self._initial if isinstance(self._initial, BaseChunk) else self._initial(*args, **without(kwargs))
        return given if isinstance(given, BaseChunk) else self._class.of(given)

    def key_of(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, bound: bool) -> str:
        """The job of a call. Raises ConfigurationError."""
        maker = self._keys.get(bound)
        signature = self._open
        if bound:
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        if self._key is None and not signature.parameters:
            return name
        if maker is None:
            maker = self._keys[bound] = key_maker(stand_in(self.fn, signature), None, self._key, None)
        return maker(args, without(kwargs))


class Joined(Exception):
    """The job is in work already."""


class Message:
    """One message of a chunked task, in the process that runs it."""

    def __init__(
        self, plan: Chunking, task: Any, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
        me: tuple[Any, ...],
    ) -> None:  # fmt: skip
        self.plan = plan
        self.task = task
        self.request = request
        self.args = args
        self.kwargs = without(kwargs)
        self._me = me
        self._first = functools.partial(plan.first, (*me, *args), kwargs)
        self.step = chunk_marks.of_request(request)
        self.client = client_of(task.app)
        key = self.step.key if self.step else plan.key_of(task.name, args, kwargs, bound=bool(me))
        self.job = ChunkJob(self.client._engine, key)

    def run(self) -> Any:
        """Run the chunk whose turn it is. Raises what the function raises; Ignore where there is none for us."""
        try:
            record = self._join()
        except Joined:
            if self.request.id in _starts(drive(self.job.read())):
                raise Ignore("this message was delivered again") from None
            return None
        if record.state in OVER:
            return None
        if record.state == "paused" or self._is_deep():
            self._come_back(record, ASKED)
        first = self._first_of(record)
        worker = ChunkWorker(self.client._settings, self.job, first.walk(), record, self.plan.rules)
        try:
            claimed = drive(worker.claim())
            if claimed is None:
                # Delivered twice, or published again: whoever has the chunk goes on.
                raise Ignore("another message of this step is in work")
            return self._run(worker, claimed, first)
        finally:
            drive(worker.leave())

    # Beginning.

    def _join(self) -> Record:
        """The job of this message as it is; begun, where this starts it. Raises Ignore where its step is over."""
        found = drive(self.job.read())
        if self.step is not None:
            if found is None or not self.step.is_now(found) or found.state in (*OVER, "failed"):
                raise Ignore("this step of the job is over")
            return found
        if found is not None and found.state not in OVER:
            return self._join_running(found)
        if found is not None and self.request.id in _starts(found):
            raise Ignore("this message was delivered again, and its job is over")
        first = self._first()
        note = chunk_marks.note_of(self.task, self.request, self.args, self.kwargs) | {"chunk": first.__json__()}
        record = drive(self.job.begin(first.walk(), keep=KEEP, note=note, over=found))
        if self.request.id not in _starts(record):
            return self._join_running(record)  # another call was faster
        if record.state not in OVER:
            drive(chunk_list.add(self.job.engine, self.job.name, chunk_list.ACTIVE))
        return record

    def _join_running(self, found: Record) -> Record:
        """What starts a job that has begun already: one that had stopped goes on, another one is left to its chain."""
        if found.state == "failed":
            return drive(self.job.resume()) or found
        # If its chain was lost, this goes on; if not, this comes later than that, and its step is over by then.
        self._publish(found, max(self.plan.sleep, 1.0))
        raise Joined

    def _first_of(self, record: Record) -> BaseChunk[Any, Any]:
        told = record.note.get("chunk") if isinstance(record.note, dict) else None
        if told is None:
            raise ConfigurationError(
                f"{self.job.name!r} is a chunked job of something else than this task: give it a key"
            )
        return self.plan._class.of(told) if isinstance(told, dict) else self._first()

    def _is_deep(self) -> bool:
        if self.plan.max_waiting is None:
            return False
        name = self.plan.queue or (self.request.delivery_info or {}).get("routing_key")
        with self.task.app.connection_for_read() as connection:
            (found,) = look(connection, [name or self.task.app.conf.task_default_queue])
        return found.messages > self.plan.max_waiting

    # The chunk.

    def _run(self, worker: ChunkWorker, claimed: Claimed, first: BaseChunk[Any, Any]) -> Any:
        chunk = first.at(worker.walk.value(claimed.start))
        try:
            result = self.plan.call((*self._me, *self.args), self.kwargs, chunk)
        except (Retry, Reject):
            raise  # the chunk stays in its lane, and this message comes again
        except Ignore:
            self._go_on(worker)
            raise
        except Exception as error:
            pause = drive(worker.failed(error))
            drive(worker.leave())  # first, or the next message might find its lane taken
            if pause is not None and worker.last is not None and worker.last.state == "running":
                self._publish(worker.last, pause)
            raise
        self._go_on(worker)
        return result

    def _go_on(self, worker: ChunkWorker) -> None:
        drive(worker.finish(claim=False))
        if worker.hold is None:
            return  # lost: whoever has the chunk now goes on
        last = worker.last
        if last is not None and last.state == "running" and _is_at_its_end(worker.walk, last):
            drive(worker.claim())  # finds that nothing is left, and says so
            last = worker.last
        drive(worker.leave())
        if last is None or last.state in OVER:
            self._forget_active()
        elif last.state in ("running", "paused"):
            self._publish(last, self.plan.sleep)

    # The next message.

    def _publish(self, record: Record, countdown: float) -> None:
        if self.plan.rates:
            slot = drive(RateRecipe(self.job.engine, f"chunks:{self.job.name}", self.plan.rates).book(1, None, None))
            countdown = max(countdown, slot.delay)
        publish(self.task, self.args, self.kwargs, chunk_marks.options_of(self.request),
                Step.of(self.job.name, record), countdown)  # fmt: skip

    def _come_back(self, record: Record, countdown: float) -> NoReturn:
        headers = {**(self.request.headers or {}), HEADER: Step.of(self.job.name, record).dump()}
        options: dict[str, Any] = {"countdown": countdown, "retries": self.request.retries, "add_to_parent": False}
        self.task.signature_from_request(self.request, kwargs=self.kwargs, headers=headers, **options).apply_async()
        raise Ignore(f"comes back in {countdown:.1f} s")

    def _forget_active(self) -> None:
        drive(chunk_list.remove(self.job.engine, self.job.name, chunk_list.ACTIVE))


def publish(task: Any, args: Any, kwargs: Any, options: dict[str, Any], step: Step, countdown: float) -> None:
    """Publish the message of a step. More than one of them do no harm: the first to arrive is the one."""
    headers = {**options.get("headers", {}), HEADER: step.dump()}
    options = {name: value for name, value in options.items() if name != "headers"}
    task.apply_async(args, kwargs, headers=headers, countdown=countdown or None, add_to_parent=False, **options)


def plan_of(task: Any) -> Chunking | None:
    """How a task is chunked; None where it is not."""
    run: Any = getattr(task, "run", None) if isinstance(task, Task) else None
    while run is not None:
        plan = getattr(run, "locksmith_chunking", None)
        if isinstance(plan, Chunking):
            return plan
        run = getattr(run, "__wrapped__", None)
    return None


def without(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A call's arguments by keyword, but its chunk."""
    return {name: value for name, value in kwargs.items() if name != PARAMETER}


def _starts(record: Record | None) -> list[Any]:
    return list(record.note.get("starts", [])) if record is not None and isinstance(record.note, dict) else []


def _is_at_its_end(walk: Walk, record: Record) -> bool:
    return not record.lanes and (record.exhausted or walk.after(record.cursor) is None)
