"""chunked, for async functions and async generators."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from locksmith.adapters.chunk_calls import Calls, Course
from locksmith.adapters.clients_async import AsyncSource
from locksmith.adapters.current import current
from locksmith.aio import AsyncLease
from locksmith.chunks import AsyncJob, Chunk, Progress


def wrap_async(calls: Calls, client: object, store: object) -> Any:
    """What a chunked async function or async generator becomes."""
    source = AsyncSource(client, store)
    wrapper: Any = (_generator if inspect.isasyncgenfunction(calls.fn) else _coroutine)(calls, source)

    async def job(*args: Any, **kwargs: Any) -> AsyncJob:
        """The job of a call with these arguments."""
        return AsyncJob(await source.get(), calls.key_of(args, kwargs))

    wrapper.job = job
    return wrapper


def _coroutine(calls: Calls, source: AsyncSource) -> Callable[..., Any]:
    async def whole(*args: Any, **kwargs: Any) -> Progress:
        course, run = await _begin(calls, source, args, kwargs)
        try:
            while (chunk := await _next(course)) is not None:
                token = current.set(chunk.lease)
                try:
                    await run(chunk)
                except Exception as error:
                    if not await course.failed(error):
                        raise
                else:
                    await course.done()
                finally:
                    current.reset(token)
        finally:
            await course.job.engine.runtime.finish(course.worker.leave())
        return Progress.of(course.job.name, course.worker.last, course.worker.finished)  # type: ignore[arg-type]  # it has begun

    return whole


def _generator(calls: Calls, source: AsyncSource) -> Callable[..., Any]:
    async def items(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        course, run = await _begin(calls, source, args, kwargs)
        try:
            while (chunk := await _next(course)) is not None:
                try:
                    async with aclosing(_steps(run(chunk), chunk.lease)) as steps:
                        async for item in steps:
                            yield item
                except Exception as error:
                    if not await course.failed(error):
                        raise
                else:
                    await course.done()
        except GeneratorExit:
            course.worker.drop()  # who is thrown away may not be able to await any more
            raise
        finally:
            await course.job.engine.runtime.finish(course.worker.leave())

    return items


async def _begin(
    calls: Calls, source: AsyncSource, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Course, Callable[[Chunk[Any]], Any]]:
    bound, key = calls.bind(args, kwargs), calls.key_of(args, kwargs)
    course = await Course.begin(calls, await source.get(), key, calls.walk(args, kwargs))
    return course, lambda chunk: calls.run(bound, chunk)


async def _next(course: Course) -> Chunk[Any] | None:
    claimed = await course.next()
    if claimed is None or course.worker.hold is None:
        return None
    return Chunk(course.worker.walk, claimed, AsyncLease(course.job.engine, course.worker.hold))


async def _steps(generator: Any, lease: AsyncLease) -> AsyncGenerator[Any, None]:
    """The items of a chunk, under its lease, and none after that was lost."""
    async with aclosing(generator):
        while True:
            token = current.set(lease)
            try:
                lease.check()
                item = await anext(generator)
            except StopAsyncIteration:
                return
            finally:
                current.reset(token)
            yield item
