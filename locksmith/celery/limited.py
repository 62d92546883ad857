"""RateLimited: a Celery task of which all workers together begin so many per window, or run so many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from celery import Task

from locksmith.celery.limit_step import LimitStep
from locksmith.celery.limiting import limited
from locksmith.celery.limits import Limits
from locksmith.celery.plan import plan_of
from locksmith.celery.singleton import Singleton
from locksmith.celery.wiring import install

if TYPE_CHECKING:
    _Task: TypeAlias = Task[..., Any]
else:
    _Task = Task


class RateLimited(_Task):
    """A base for tasks: `@app.task(base=RateLimited, limit="70/s")`. Celery's own rate_limit is one of each worker.

    `limit`: one rate or several ("70/s", "10000/h"), which all count; `limit_burst`: how many more may begin at once,
    one number or one for each rate. `limit_key`: a template over the arguments ("{user}") or a callable of them; each
    key has the limits for itself. `limit_cost`: how many a call counts for. `limit_name`: by default the task's name;
    tasks of one name share, also with `client.rate_limit(limit_name, ...)`. Each beginning counts, so each retry does.

    `limit_concurrency`: how many run at once, of each key; `limit_concurrency_key` where that is another one (None: of
    all keys together). It is a semaphore of the limit's name, with ":" and the key; `limit_ttl`: seconds after which
    the permit of a worker that was killed is free (by default the client's ttl).

    A call that may not begin waits for the slot that was booked for it, or comes back for a permit: in no slot of a
    pool, and that is no retry. `limit_on_store_error`, also in the Celery configuration:
    "fail" puts calls off until the store answers, "run" runs them without limits, with a warning.

    Together with Singleton, in any order, or as RateLimitedSingleton: a call that waits for its slot is a queued one.

    Registering the task raises ConfigurationError for settings that cannot work. A worker of an application with a
    `limit` over a store without a clock does not start: GuaranteeMissing.
    """

    abstract = True
    Strategy = "locksmith.celery.strategy:paced"

    limit: ClassVar[str | Sequence[str] | None] = None
    limit_burst: ClassVar[int | Sequence[int]] = 0
    limit_key: ClassVar[str | Callable[..., str] | None] = None
    limit_cost: ClassVar[int] = 1
    limit_name: ClassVar[str | None] = None
    limit_concurrency: ClassVar[int | None] = None
    limit_concurrency_key: ClassVar[str | Callable[..., str] | EllipsisType | None] = ...
    limit_ttl: ClassVar[float | None] = None
    limit_on_store_error: ClassVar[str | None] = None

    _limits: Limits | None = None

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Called by Celery when the task is registered."""
        bound = super().bind(app)
        install(app)
        app.steps["worker"].add(LimitStep)
        found = app._tasks.get(cls.name)
        if isinstance(found, cls):
            found._locksmith_limits()
        return bound

    def _locksmith_limits(self) -> Limits:
        if self._limits is None:
            self._limits = Limits.of(self, self.app.conf)
        return self._limits

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task: under its limits where a worker runs it, and plainly where it is called as a function."""
        request: Any = self.request_stack.top
        if (
            request is None
            or request.called_directly
            or plan_of(self) is not None  # a Singleton judges first, and comes to the limits by itself
            or getattr(request, "_locksmith_begun", False)
        ):
            return super().__call__(*args, **kwargs)
        request._locksmith_begun = True
        if request.is_eager:
            return self.run(*args, **kwargs)
        return limited(self._locksmith_limits(), request, super().__call__)(*args, **kwargs)


class RateLimitedSingleton(Singleton, RateLimited):
    """Both: no two equal calls are queued or run, and all of them keep to the limits."""

    abstract = True
