"""chunked: a function that does a large job in chunks, which any number of processes share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from locksmith.adapters.canonical import qualified
from locksmith.adapters.chunk_calls import Calls, Course, pace_of, rules_of
from locksmith.adapters.clients import BlockingSource
from locksmith.adapters.current import current
from locksmith.adapters.wrappers import _steps
from locksmith.chunks import Chunk, Job, Progress
from locksmith.client import Lease
from locksmith.errors import ConfigurationError
from locksmith.recipes.permits import check_seconds
from locksmith.runtime import drive

if TYPE_CHECKING:
    from locksmith.aio import AsyncClient
    from locksmith.client import Client


def chunked(
    template: str | None = None,
    /,
    *,
    over: Any,
    key: str | Callable[..., str] | None = None,
    at_most: int = 32,
    retries: int = 3,
    retry_pause: float = 1.0,
    rate: str | tuple[str, ...] | None = None,
    pause: float = 0.0,
    hold_while: Callable[[], object] | None = None,
    keep: float | None = None,
    ttl: float | None = None,
    client: Client | AsyncClient | Callable[[], Client] | Callable[[], AsyncClient] | None = None,
    store: str | None = None,
) -> Callable[[Callable[..., Any]], Any]:
    """Do a job in chunks: each call works on it until it is done, together with all others that have its key.

    The function is called once for each chunk, in its parameter `chunk`, which callers leave out. A call of a plain
    function returns a Progress when the whole job is done. A call of a generator function is an iterator over what it
    yields for the chunks that this process has: a chunk is finished when its generator is exhausted. Async functions
    and async generators alike.

    `over`: `ints(...)`, `dates(...)` or `datetimes(...)` of locksmith.chunks, `pages(...)` of locksmith_sql.pages, or
    a callable that gets the call's arguments and returns one; the job keeps to the range that it began with.

    `template` or `key`: which calls are the same job, as in run_once; by default the function's name and all arguments.
    A job that is done stays done: a call with its key returns at once. `keep`: seconds after which that is forgotten.

    A chunk is begun by one process at a time, under a lease of `ttl` seconds that is renewed; one whose process has
    died is begun again by another; one that was finished never. `at_most`: how many are in work at once, everywhere.
    `retries`: how often a chunk that raised is begun again, after `retry_pause` seconds that double each time; then the
    job stops, and this call raises what the function raised, the others ChunkFailed. The next call goes on.

    Between chunks: `rate`, such as "10/s", for all processes together; `pause`, seconds in this process; `hold_while`,
    a callable that says whether to wait, asked each second.

    The store: `client`, `store` or LOCKSMITH_URL, as in run_once. Calls raise StoreError, GuaranteeMissing,
    ConfigurationError. Decorating raises ConfigurationError.
    """
    rules, pace = rules_of(at_most, retries, retry_pause, ttl), pace_of(rate, pause, hold_while)
    kept = None if keep is None else check_seconds("keep", keep, positive=True)

    def decorate(fn: Any) -> Any:
        if isinstance(fn, staticmethod | classmethod):
            return type(fn)(decorate(fn.__func__))
        if inspect.isclass(fn) or not callable(fn):
            raise ConfigurationError(f"chunked decorates functions and methods, not {fn!r}")
        return _wrap(Calls(fn, over, template, key, rules, pace, kept), client, store)

    return decorate


def _wrap(calls: Calls, client: object, store: object) -> Any:
    fn = calls.fn
    wrapper: Any
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        from locksmith.adapters.chunked_async import wrap_async  # programs without async functions load no asyncio

        wrapper = wrap_async(calls, client, store)
    else:
        source = BlockingSource(client, store)
        wrapper = _generator(calls, source) if inspect.isgeneratorfunction(fn) else _plain(calls, source)

        def job(*args: Any, **kwargs: Any) -> Job:
            """The job of a call with these arguments."""
            return Job(source.get(), calls.key_of(args, kwargs))

        wrapper.job = job
    functools.update_wrapper(wrapper, fn)
    wrapper.__signature__ = calls.signature
    wrapper.key = lambda *args, **kwargs: calls.key_of(args, kwargs)
    return wrapper


def _plain(calls: Calls, source: BlockingSource) -> Callable[..., Progress]:
    def body(run: Callable[[], Any], lease: Lease) -> Iterator[Any]:
        token = current.set(lease)
        try:
            if inspect.isawaitable(result := run()):
                getattr(result, "close", lambda: None)()
                raise ConfigurationError(f"{qualified(calls.fn)} is plain, but returns a coroutine: make it async")
        finally:
            current.reset(token)
        yield from ()

    def whole(*args: Any, **kwargs: Any) -> Progress:
        steps = _work(calls, source, args, kwargs, body)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                progress: Progress = end.value
                return progress

    return whole


def _generator(calls: Calls, source: BlockingSource) -> Callable[..., Iterator[Any]]:
    def body(run: Callable[[], Any], lease: Lease) -> Iterator[Any]:
        yield from _steps(run(), lease)

    def items(*args: Any, **kwargs: Any) -> Any:
        return (yield from _work(calls, source, args, kwargs, body))

    return items


def _work(
    calls: Calls, source: BlockingSource, args: Any, kwargs: Any, body: Callable[[Callable[[], Any], Lease], Any]
) -> Any:
    """A generator over all that is yielded for chunks that are ours; returns a Progress."""
    bound, key = calls.bind(args, kwargs), calls.key_of(args, kwargs)
    course = drive(Course.begin(calls, source.get(), key, calls.walk(args, kwargs)))
    worker = course.worker
    try:
        while (claimed := drive(course.next())) is not None and worker.hold is not None:
            lease = Lease(course.job.engine, worker.hold)
            chunk: Chunk[Any] = Chunk(worker.walk, claimed, lease)
            try:
                yield from body(functools.partial(calls.run, bound, chunk), lease)
            except Exception as error:
                if not drive(course.failed(error)):
                    raise
            else:
                drive(course.done())
    finally:
        drive(worker.leave())
    last = worker.last
    return None if last is None else Progress.of(key, last, worker.finished)
