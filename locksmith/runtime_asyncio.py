"""The runtime of the asyncio face. Loaded only when that face is: `import locksmith` does not import asyncio."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from locksmith.runtime import Background, Clock, Event, SystemClock

T = TypeVar("T")


class LoopEvent:
    """An event that coroutines wait for and that any thread may set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flag = False
        self._sleepers: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        """See Event.set."""
        self._flag = True
        self._wake_all()

    def clear(self) -> None:
        """See Event.clear."""
        self._flag = False

    def is_set(self) -> bool:
        """See Event.is_set."""
        return self._flag

    async def wait(self, timeout: float | None) -> bool:
        """See Event.wait."""
        if self._flag:
            return True
        if timeout is not None and timeout <= 0:
            return False
        loop = asyncio.get_running_loop()
        sleeper = loop.create_future()
        self._sleepers.add(sleeper)
        cancel = self._alarm(loop, timeout, sleeper)
        try:
            # Looked at again after joining the sleepers: a set() between the first look and here must not be lost.
            if not self._flag:
                await sleeper
        finally:
            self._sleepers.discard(sleeper)
            cancel()
        return self._flag

    def _alarm(
        self, loop: asyncio.AbstractEventLoop, timeout: float | None, sleeper: asyncio.Future[None]
    ) -> Callable[[], None]:
        if timeout is None:
            return _nothing
        if self._clock.call_later is not None:
            return self._clock.call_later(timeout, lambda: _wake(loop, sleeper))
        return loop.call_later(timeout, _resolve, sleeper).cancel

    def _wake_all(self) -> None:
        for sleeper in tuple(self._sleepers):
            _wake(sleeper.get_loop(), sleeper)


class _Task:
    """A task that runs beside its caller."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def alive(self) -> bool:
        return not self._task.done() and asyncio._get_running_loop() is self._task.get_loop()

    def elsewhere(self) -> bool:
        loop = self._task.get_loop()
        return not self._task.done() and loop.is_running() and loop is not asyncio._get_running_loop()

    async def join(self, timeout: float) -> bool:
        if self._task is not asyncio.current_task():
            await asyncio.wait([self._task], timeout=timeout)
        return self._task.done()


class Asyncio:
    """The runtime of the asyncio face: everything runs on the loop of the caller."""

    is_async = True

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        # The loop keeps only weak references to tasks; these must reach their end.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._pid = 0

    async def settle(self, reply: Awaitable[T] | T) -> T:
        """See Runtime.settle."""
        if inspect.isawaitable(reply):
            return await reply
        return reply

    async def sleep(self, seconds: float) -> None:
        """See Runtime.sleep."""
        if self.clock.call_later is None:
            await asyncio.sleep(seconds)
        else:
            await self.event().wait(seconds)

    async def call(self, fn: Callable[[], T]) -> T:
        """See Runtime.call: a thread of this client's own, so that a busy default pool cannot delay a beat.

        One, because calls are short and the drivers that need this do one thing at a time; waking one that is always
        the same costs two thirds of waking one of four.
        """
        if self._threads is None:
            self._pid = os.getpid()
            self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="locksmith-call")
        return await asyncio.get_running_loop().run_in_executor(self._threads, fn)

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """See Runtime.finish. A second cancellation stops the waiting, not the work."""
        task = self._start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                await asyncio.wait([task])
            raise

    def event(self) -> Event:
        """See Runtime.event."""
        return LoopEvent(self.clock)

    def context(self) -> object:
        """See Runtime.context."""
        return asyncio.current_task()

    def background(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> Background | None:
        """See Runtime.background: a task on the running loop."""
        try:
            return _Task(self._start(work(), name))
        except RuntimeError:
            return None

    def reset(self) -> None:
        """See Runtime.reset."""
        threads, self._threads = self._threads, None
        # Not in a forked child: there are no threads to end there, and the lock it takes may have been held.
        if threads is not None and os.getpid() == self._pid:
            threads.shutdown(wait=False)

    def _start(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        try:
            task = asyncio.get_running_loop().create_task(work, name=name)
        except RuntimeError:
            work.close()
            raise
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: whoever waited has it, and nobody else needs asyncio's complaint


def _wake(loop: asyncio.AbstractEventLoop, sleeper: asyncio.Future[None]) -> None:
    if asyncio._get_running_loop() is loop:
        _resolve(sleeper)
        return
    with suppress(RuntimeError):  # the loop is closed, and its sleepers with it
        loop.call_soon_threadsafe(_resolve, sleeper)


def _resolve(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _nothing() -> None:
    pass
