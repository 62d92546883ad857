"""A clock that only tests move: hours of leases and waiting in microseconds, and the same on every run.

    clock = VirtualClock()
    client = locksmith.connect("memory://", clock=clock)
    lease = client.lock("reports", ttl=30).acquire()
    clock.advance(3600)             # the keeper renewed it 360 times
    assert lease.held

Only `memory://` lives by this clock; a server has its own.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Final

PATIENCE: Final = 1.5
"""Real seconds that `advance` waits for a thread that was woken and neither sleeps again nor ends."""
_NEWBORN: Final = 0.3
"""Real seconds in which a thread of ours that has just been started looks at its clock for the first time."""
_OURS: Final = "locksmith-"
_QUIET_TURNS: Final = 10
# Where threads sleep that wait for something else; a name of Python 3.11 and 3.12 is among them.
_SLEEPING: Final = (
    threading.Condition.wait,
    threading.Thread.join,
    getattr(threading.Thread, "_wait_for_tstate_lock", None),
)
_ELSEWHERE: Final = frozenset(function.__code__ for function in _SLEEPING if function is not None)


class _Sleeper:
    """One entry of the clock: whom to wake when."""

    __slots__ = ("done", "due", "fn", "number", "thread")

    def __init__(self, due: float, number: int, fn: Callable[[], None]) -> None:
        self.due = due
        self.number = number
        self.fn = fn
        self.thread = threading.current_thread()
        self.done = False

    def __lt__(self, other: _Sleeper) -> bool:
        return (self.due, self.number) < (other.due, other.number)

    @property
    def asleep(self) -> bool:
        """Whether nothing has woken it: it is not cancelled, and the event it waits for was not set."""
        is_set = getattr(getattr(self.fn, "__self__", None), "is_set", None)
        return not self.done and not (is_set is not None and is_set())


class VirtualClock:
    """Time that stands still until `advance`. Give it to `connect(..., clock=)`; usable from any thread.

    Args:
        start: what `now()` says first.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._heap: list[_Sleeper] = []
        # Woken by us, and not yet running again.
        self._fired: set[_Sleeper] = set()
        self._advancing = threading.RLock()
        self._activity = 0
        # Threads that `advance` lets come to rest before time goes on: those that sleep by this clock, and our own.
        self._party: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._seen: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

    # What the library asks (locksmith.runtime.Clock).

    @property
    def now(self) -> Callable[[], float]:
        """`now()` is the virtual time in seconds."""
        return self._read

    @property
    def call_later(self) -> Callable[[float, Callable[[], None]], Callable[[], None]]:
        """`call_later(seconds, fn)` calls `fn` when that much time was advanced; returns a function that cancels."""
        return self._call_later

    # What tests do.

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake whoever sleeps, in the order of their times.

        Before each step, threads that are awake get the (real) time to do what they do and to sleep again. Tasks on
        the event loop of the caller cannot run meanwhile: use `await advance_async()` there.
        """
        with self._advancing:
            until = self._until(seconds)
            while True:
                self._settle()
                if (sleeper := self._step(until)) is None:
                    break
                sleeper.fn()
            self._settle()

    async def advance_async(self, seconds: float) -> None:
        """`advance`, and between the steps the tasks of this event loop run until all of them wait."""
        until = self._until(seconds)
        while True:
            await self._settle_async()
            if (sleeper := self._step(until)) is None:
                break
            sleeper.fn()
        await self._settle_async()

    @property
    def sleepers(self) -> int:
        """How many threads and tasks sleep by this clock, with or without a bound."""
        with self._changed:
            return sum(sleeper.asleep for sleeper in self._heap)

    def sleeps(self, thread: threading.Thread) -> bool:
        """Whether this thread sleeps by this clock."""
        with self._changed:
            return any(sleeper.thread is thread and sleeper.asleep for sleeper in self._heap)

    def wait_for_sleepers(self, count: int, *, within: float = 10.0) -> None:
        """Wait, in real time, until at least `count` threads sleep by this clock.

        Raises:
            AssertionError: they did not within `within` real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: sum(s.asleep for s in self._heap) >= count, within):
                raise AssertionError(f"not within {within:g} s: {count} sleepers on {self!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} now={self._now:.3f} sleepers={self.sleepers}>"

    # Inside.

    def _read(self) -> float:
        self._activity += 1
        thread = threading.current_thread()
        if thread not in self._seen:
            with self._changed:
                self._seen.add(thread)
                if thread.name.startswith(_OURS):
                    self._party.add(thread)
        return self._now

    def _call_later(self, seconds: float, fn: Callable[[], None]) -> Callable[[], None]:
        self._read()
        with self._changed:
            self._activity += 1
            sleeper = _Sleeper(self._now + max(0.0, seconds), next(self._numbers), fn)
            heapq.heappush(self._heap, sleeper)
            if asyncio._get_running_loop() is None:
                self._party.add(sleeper.thread)
            self._changed.notify_all()

        def cancel() -> None:
            with self._changed:
                self._activity += 1
                sleeper.done = True
                self._fired.discard(sleeper)
                self._changed.notify_all()

        return cancel

    def _until(self, seconds: float) -> float:
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"time advances by a finite number of seconds that is not negative, not {seconds!r}")
        return self._now + seconds

    def _step(self, until: float) -> _Sleeper | None:
        """Move time to the next sleeper and take it out, or to the end."""
        with self._changed:
            while self._heap and self._heap[0].due <= until:
                sleeper = heapq.heappop(self._heap)
                if not sleeper.done:
                    self._now = max(self._now, sleeper.due)
                    self._fired.add(sleeper)
                    return sleeper
            self._now = max(self._now, until)
            return None

    async def _settle_async(self) -> None:
        self._settle()
        quiet, seen = 0, self._activity
        while quiet < _QUIET_TURNS:
            await asyncio.sleep(0)
            quiet, seen = (quiet + 1, seen) if seen == self._activity else (0, self._activity)

    def _settle(self) -> None:
        """Wait until every thread of the party sleeps, ended, or was waited for long enough."""
        self._meet_newborns()
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while awake := self._awake():
                left = deadline - time.monotonic()
                if left <= 0:
                    self._party.difference_update(awake)
                    return
                # Bounded: the end of a thread, and an event set by another, notify nobody here.
                self._changed.wait(min(left, 0.001))

    def _meet_newborns(self) -> None:
        # A thread of ours between its start and its first look at the clock; one that lives by another clock is asked
        # once, and then known.
        deadline = time.monotonic() + _NEWBORN
        for thread in threading.enumerate():
            if thread.name.startswith(_OURS):
                while thread not in self._seen and thread.is_alive() and time.monotonic() < deadline:
                    time.sleep(0.0002)
                self._seen.add(thread)

    def _awake(self) -> list[threading.Thread]:
        asleep: set[threading.Thread] = set()
        woken = {sleeper.thread for sleeper in self._fired}
        for sleeper in self._heap:
            if not sleeper.done:
                (asleep if sleeper.asleep else woken).add(sleeper.thread)
        here = threading.current_thread()
        restless = [t for t in self._party if t is not here and t.is_alive() and t not in asleep]
        if not restless:
            return []
        frames = sys._current_frames()
        return [t for t in restless if t in woken or not _sleeps_elsewhere(frames.get(t.ident or 0))]


def _sleeps_elsewhere(frame: FrameType | None) -> bool:
    if frame is None or frame.f_code not in _ELSEWHERE:
        return False
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return False  # it waits a moment for a thread that it has just started
        frame = frame.f_back
    return True
