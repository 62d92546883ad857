"""Waiting for a condition that has no event of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.05


def eventually(predicate: Callable[[], T], *, within: float = 5.0, what: str | None = None) -> T:
    """The first truthy answer of `predicate`, asked again and again for at most `within` seconds.

    Where something can be waited *for* (an event, a join, a blocking read), wait for that instead. `what` says in the
    failure what was expected; without it the failure names the predicate and its last answer.

    Raises:
        AssertionError: no answer was truthy in time.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(_complaint(predicate, answer, within, what))
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


async def eventually_async(
    predicate: Callable[[], T | Awaitable[T]], *, within: float = 5.0, what: str | None = None
) -> T:
    """`eventually` for a running event loop; the predicate may be a coroutine function.

    Raises:
        AssertionError: no answer was truthy in time.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    while True:
        said = predicate()
        answer = await said if isinstance(said, Awaitable) else said
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(_complaint(predicate, answer, within, what))
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _complaint(predicate: Callable[[], object], answer: object, within: float, what: str | None) -> str:
    expected = what or getattr(predicate, "__qualname__", repr(predicate))
    return f"not within {within:g} s: {expected} (last answer: {answer!r})"
