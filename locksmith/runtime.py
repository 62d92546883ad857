"""How one body of ``async def`` code runs on threads and on an event loop.

Stores and engine are coroutines. The blocking runtime steps such a coroutine on the calling thread and requires that it
never suspends; an asyncio runtime (`locksmith.runtime_asyncio`) awaits it natively.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Event(Protocol):
    """A flag that any thread may set and that a coroutine of its runtime can wait for."""

    def set(self) -> None:
        """Raise the flag; safe from any thread, and from driver callbacks."""

    def clear(self) -> None:
        """Lower the flag."""

    def is_set(self) -> bool:
        """Whether the flag is up."""

    async def wait(self, timeout: float | None) -> bool:
        """Wait at most `timeout` seconds (None: without bound) for the flag; False where the time ended first."""


class Clock(Protocol):
    """Local time in seconds. Its zero means nothing; it never runs backwards."""

    @property
    def now(self) -> Callable[[], float]:
        """`now()` is seconds since an arbitrary moment, suspend included where the system can tell."""

    @property
    def call_later(self) -> Callable[[float, Callable[[], None]], Callable[[], None]] | None:
        """A virtual clock's own timers: `call_later(seconds, fn)` returns a cancel function. None: real time."""


class SystemClock:
    """The clock leases are judged by: CLOCK_BOOTTIME where there is one, because it counts suspend.

    CLOCK_MONOTONIC stands still while a Linux machine sleeps, so a laptop or a VM that wakes up would still believe in
    leases that ended hours ago. Elsewhere `time.monotonic` is the best there is.
    """

    call_later = None

    def __init__(self) -> None:
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        if boottime is None:  # pragma: no cover - macOS and Windows
            self._now: Callable[[], float] = time.monotonic
        else:
            self._now = partial(time.clock_gettime, boottime)

    @property
    def now(self) -> Callable[[], float]:
        """See Clock.now."""
        return self._now


class Background(Protocol):
    """Work that runs beside its caller: a daemon thread, or a task."""

    def alive(self) -> bool:
        """Whether it still runs where the caller is: a task of another event loop does not."""

    def elsewhere(self) -> bool:
        """Whether it runs on an event loop that is not the caller's: two loops cannot share a client."""

    async def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for its end; False where it still runs."""


class Runtime(Protocol):
    """What a store and the engine may ask of the world they run in."""

    clock: Clock
    is_async: bool

    async def settle(self, reply: Awaitable[T] | T) -> T:
        """The value of a driver's reply, from a sync or an async driver."""

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` of the runtime's clock pass."""

    async def call(self, fn: Callable[[], T]) -> T:
        """A *short* call of a driver that is only sync; never a wait, which would fill the pool and starve releases."""

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end what must not be cut short: a cancelled caller waits for it, and is cancelled after."""

    def event(self) -> Event:
        """A new event of this runtime."""

    def context(self) -> object:
        """What runs now, a thread or a task: equal for two calls in the same one."""

    def background(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> Background | None:
        """Run `work()` beside the caller; None where nothing can be started any more (interpreter shutdown)."""

    def reset(self) -> None:
        """Let go of threads of our own: after closing, and in a forked child, where they do not exist."""


class ThreadEvent:
    """An event for threads, on a given clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition(threading.Lock())
        self._flag = False

    def set(self) -> None:
        """See Event.set."""
        with self._changed:
            self._flag = True
            self._changed.notify_all()

    def clear(self) -> None:
        """See Event.clear."""
        self._flag = False

    def is_set(self) -> bool:
        """See Event.is_set."""
        return self._flag

    async def wait(self, timeout: float | None) -> bool:
        """See Event.wait; blocks the calling thread."""
        call_later = self._clock.call_later
        if call_later is None:
            with self._changed:
                return self._flag or self._changed.wait_for(self.is_set, timeout)
        # A virtual clock is told of every sleeper, also of one without bound, so that it knows when all are asleep.
        bound = math.inf if timeout is None else timeout
        deadline = self._clock.now() + bound
        cancel = call_later(bound, self._look_again)
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._flag or self._clock.now() >= deadline)
        finally:
            cancel()
        return self._flag

    def _look_again(self) -> None:
        with self._changed:
            self._changed.notify_all()


class _Thread:
    """A daemon thread that drives one coroutine."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._thread = threading.Thread(target=lambda: drive(work()), name=name, daemon=True)
        self._thread.start()
        self.alive = self._thread.is_alive

    def elsewhere(self) -> bool:
        return False

    async def join(self, timeout: float) -> bool:
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()


class Blocking:
    """The runtime of the blocking face: every coroutine runs to its end on the calling thread."""

    is_async = False

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()

    async def settle(self, reply: Awaitable[T] | T) -> T:
        """See Runtime.settle: a sync driver's reply is its value."""
        return reply  # type: ignore[return-value]  # an awaitable here is a bug of the store; drive() reports it

    async def sleep(self, seconds: float) -> None:
        """See Runtime.sleep."""
        if self.clock.call_later is None:
            time.sleep(seconds)  # noqa: ASYNC251 - in this runtime a coroutine is how a thread runs
        else:
            await self.event().wait(seconds)

    async def call(self, fn: Callable[[], T]) -> T:
        """See Runtime.call: we are on a thread already."""
        return fn()

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """See Runtime.finish: nothing cancels a thread."""
        return await work

    def event(self) -> Event:
        """See Runtime.event."""
        return ThreadEvent(self.clock)

    def context(self) -> object:
        """See Runtime.context. Not the thread's number: a new thread gets that of one that has ended."""
        return threading.current_thread()

    def background(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> Background | None:
        """See Runtime.background: a daemon thread."""
        try:
            return _Thread(work, name)
        except RuntimeError:  # "can't start new thread", also at interpreter shutdown
            return None

    def reset(self) -> None:
        """See Runtime.reset: there are none."""


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the blocking runtime to its end, on this thread, without an event loop.

    Raises RuntimeError where it suspends: a store awaited something that only an event loop can answer.
    """
    try:
        suspended_on = work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    work.close()
    raise RuntimeError(f"a blocking call suspended on {suspended_on!r}; in the blocking runtime a store must not await")
