"""What takes part in a benchmark, as plain records: contenders with their pairs, rivals for contended runs, goals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeAlias, TypeVar

Pair: TypeAlias = Callable[[], None]
"""Takes one free lock and gives it back."""
AsyncPair: TypeAlias = Callable[[], Awaitable[None]]

Give: TypeAlias = Callable[[], object]
Take: TypeAlias = Callable[[], Give]
"""Waits for the lock, and returns what gives it back."""
Rival: TypeAlias = Callable[[str, str], AbstractContextManager[Take]]
"""(url, lock name) -> take; opened in each process of a contended run."""

Counter: TypeAlias = Callable[[], tuple[int, int]]
"""Asks the server: requests so far, and clients that are connected besides the one that asks."""

OURS: Final = "locksmith"
"""The name of the contender that is measured against the others."""

P = TypeVar("P")


@dataclass(frozen=True)
class Contender(Generic[P]):
    """A name, what it promises, and how to get its pair while the benchmark runs."""

    name: str
    promises: str
    pair: Callable[[str, str], P]
    """(url, lock name) -> context manager of the pair."""
    is_floor: bool = False


BlockingContender: TypeAlias = Contender[AbstractContextManager[Pair]]
AsyncContender: TypeAlias = Contender[AbstractAsyncContextManager[AsyncPair]]


@dataclass(frozen=True)
class Goal:
    """What locksmith is to reach on a store, as multiples of something measured in the same run; None: no goal."""

    pair: float | None = None
    """An uncontended pair costs at most this many floors."""
    handoff: float | None = None
    """With 8 processes the median hand-off takes at most this many times the reference."""
    jain: float | None = 0.95
    """The least that Jain's index may be there; None where the store promises no order."""
    reference: str = ""
    """What the hand-off is compared with: a rival of the lineup, or its yardstick. Without one there is no ratio."""


@dataclass(frozen=True)
class Lineup:
    """Who takes part on a store besides locksmith. Everything is optional: without a floor there is no ratio."""

    blocking: Sequence[BlockingContender] = ()
    """The floor first."""
    aio: Sequence[AsyncContender] = ()
    """The floor first."""
    rivals: Mapping[str, Rival] = field(default_factory=dict)
    """Locks for contended runs, by name."""
    yardstick: BlockingContender | None = None
    """What a hand-off is compared with where that is not a lock: its `pair` does the thing once, by itself."""
    call: BlockingContender | None = None
    """What a decision of a rate limit is compared with: its `pair` is one raw call of the same driver that writes."""
    read: BlockingContender | None = None
    """What a duplicate `delay()` is compared with: its `pair` is one raw read of a value that is there."""
    counter: Callable[[str], Counter] | None = None
    """(url) -> what counts requests and connections while nothing happens."""
    goal: Goal = Goal()
