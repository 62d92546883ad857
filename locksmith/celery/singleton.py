"""Singleton: a Celery task of which no two equal calls are queued or run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from celery import Task

from locksmith.celery.limiting import limited
from locksmith.celery.limits import limits_of
from locksmith.celery.options import OnDuplicate, Phase
from locksmith.celery.plan import Plan
from locksmith.celery.publishing import Publisher, Seen
from locksmith.celery.running import guard
from locksmith.celery.wiring import install
from locksmith.errors import ConfigurationError, DuplicateTaskError

if TYPE_CHECKING:
    _Task: TypeAlias = Task[..., Any]
else:
    _Task = Task


_OWN: Final = frozenset(("singleton", "retries", "ignore_result", "chain", "chord", "group_id", "result_cls"))
"""Options of a call that make more of it than a message that may be left out."""


class Singleton(_Task):
    """A base for tasks: `@app.task(base=Singleton)`. While an equal call is queued or runs, another one is folded in.

    Which calls are equal: those with the same arguments, however they are given; with `unique_on` those with the same
    of these arguments; with `singleton_key`, a template over the arguments ("report:{user_id}") or a callable of them,
    those of the same key, also across tasks. `singleton_scope` stands for the task's name, so that tasks share keys;
    with {queue} in it, as in "{task}@{queue}", equal calls in different queues are different ones;
    `singleton_encoder`, a callable or its dotted path, turns the bound arguments into something that has a canonical
    form.

    What a call gets that is a duplicate, `singleton_on_duplicate`: "return", the AsyncResult of the equal call;
    "raise", DuplicateTaskError with its `task_id`; "skip", an EagerResult in state IGNORED; "replace": it takes the
    place of the equal call, which ends as REVOKED, if no worker has begun that yet, else it gets what "return" says;
    "keep_last": one runs, and at most one waits, with the newest arguments. `singleton_max_queued` (1): so many equal
    calls may have the key. Where a chain, group, chord
    or link relies on the duplicate itself, that gets the equal call's outcome as its own when that has ended.

    How long a call keeps others out, `singleton_phase`: "until_executed", from publishing to the end of its last run,
    retries included; "until_executing", to its start; "until_expired", for `singleton_ttl` seconds; "while_executing",
    any number may be queued, and `singleton_on_conflict` says whether the others wait their turn ("wait", in the queue
    and not in a pool's slot) or end as duplicates ("drop"); "until_and_while_executing", one queued and one running.

    `singleton_queue_ttl`: seconds after which a call that no worker has begun gives its key up, for queues that are
    purged; by default it never does. `singleton_on_store_error`: "fail", or "run" without the guarantee, with a
    warning. Everything but `unique_on` and `singleton_key` may stand in the Celery configuration instead.

    `delay` and `apply_async` raise DuplicateTaskError; StoreError and ConfigurationError, and then nothing was
    published. Registering the task raises ConfigurationError for settings that cannot work.
    """

    abstract = True
    Request = "locksmith.celery.request:SingletonRequest"
    throws = (DuplicateTaskError,)

    unique_on: ClassVar[Sequence[str] | None] = None
    singleton_encoder: ClassVar[Callable[[dict[str, Any]], object] | str | None] = None
    singleton_scope: ClassVar[str | None] = None
    singleton_key: ClassVar[str | Callable[..., str] | None] = None
    singleton_phase: ClassVar[Phase | None] = None
    singleton_on_duplicate: ClassVar[OnDuplicate | None] = None
    singleton_on_conflict: ClassVar[str | None] = None
    singleton_on_store_error: ClassVar[str | None] = None
    singleton_ttl: ClassVar[float | None] = None
    singleton_queue_ttl: ClassVar[float | None] = None
    singleton_max_queued: ClassVar[int | None] = None
    raise_on_duplicate: ClassVar[bool | None] = None
    singleton_compat: ClassVar[str | None] = None
    lock_expiry: ClassVar[float | None] = None

    _plan: Plan | None = None

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Called by Celery when the task is registered."""
        bound = super().bind(app)
        install(app)
        found = app._tasks.get(cls.name)
        if isinstance(found, cls):
            found._locksmith_plan()
        return bound

    def _locksmith_plan(self) -> Plan:
        if self._plan is None:
            self._plan = Plan(self, self.app.conf)
        return self._plan

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """See Celery's, and this class. `singleton`: a dict with "on_duplicate" or "key" for this call."""
        if task_id is None and not link and not link_error and _OWN.isdisjoint(options):
            publisher = self.app.send_task
            if isinstance(publisher, Publisher):
                found = publisher.fold(self, args, kwargs)
                if isinstance(found, Seen):
                    options["singleton"] = found
                elif found is not None:
                    return found
        return super().apply_async(args, kwargs, task_id, producer, link, link_error, shadow, **options)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """`delay`, once Django's transaction has been committed: a call that is rolled back never has a key."""
        _on_commit(partial(self.delay, *args, **kwargs))

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """`apply_async`, once Django's transaction has been committed."""
        _on_commit(partial(self.apply_async, *args, **kwargs))

    def key_for(self, *args: Any, **kwargs: Any) -> str:
        """The key of a call with these arguments, in the task's queue, as `locksmith celery explain` takes it.

        Raises ConfigurationError for arguments that cannot be part of a key, TypeError for those that do not fit.
        """
        options = self._get_exec_options()  # type: ignore[attr-defined]  # Celery's own, which its stubs leave out
        return self._locksmith_plan().key_of(args, kwargs, options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task: under its key where a worker runs it, and plainly where it is called as a function."""
        request: Any = self.request_stack.top
        if request is None or request.called_directly or getattr(request, "_locksmith_begun", False):
            return super().__call__(*args, **kwargs)
        request._locksmith_begun = True
        if request.is_eager:
            # Nothing was published. And not Task.__call__, which would hide the request from the task.
            return self.run(*args, **kwargs)
        limits = limits_of(self)
        body = super().__call__ if limits is None else limited(limits, request, super().__call__)
        return guard(self._locksmith_plan(), request, args, kwargs, body)


def _on_commit(call: Callable[[], object]) -> None:
    # What Celery's own DjangoTask does, which a task with another base does without.
    try:
        from django.db import transaction
    except ImportError as error:
        raise ConfigurationError("delay_on_commit is for Django, which is not installed") from error
    transaction.on_commit(call)
