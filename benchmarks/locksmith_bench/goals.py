"""What every store is to reach (`Goal` in contenders.base), measured in one run: a row for each store.

An uncontended pair is compared with the floor in both runtimes, interleaved round by round. A hand-off is measured with
8 processes and no work inside the lock, in several short runs, each next to a run of what it is compared with: a lock
(its own hand-off) or a yardstick (the time of one of those, by itself). Every ratio is the median over the rounds.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from locksmith import redact
from locksmith_bench import contended, uncontended, uncontended_aio
from locksmith_bench.contenders import lineup
from locksmith_bench.contenders.base import OURS, BlockingContender, Goal, Lineup
from locksmith_bench.stats import middle
from locksmith_bench.uncontended import PairCost

PROCESSES: Final = 8


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    pairs: int
    runs: int
    seconds: float


FULL: Final = Effort(rounds=9, pairs=600, runs=5, seconds=3.0)
QUICK: Final = Effort(rounds=5, pairs=150, runs=2, seconds=1.5)


@dataclass(frozen=True)
class Reached:
    """What one store reached; None where nothing of the kind was measured."""

    store: str
    goal: Goal
    blocking: float | None
    """Floors that an uncontended pair costs."""
    aio: float | None
    handoff_ms: float
    reference_ms: float | None
    handoff: float | None
    """References that a hand-off takes."""
    jain: float

    @property
    def met(self) -> bool:
        """Whether everything that has a goal was measured and reached it."""
        return self.jain >= (self.goal.jain or 0.0) and all(
            goal is None or (value is not None and value <= goal)
            for value, goal in (
                (self.blocking, self.goal.pair),
                (self.aio, self.goal.pair),
                (self.handoff, self.goal.handoff),
            )
        )

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "met": self.met}


def measure(url: str, effort: Effort, say: Callable[[str], None]) -> Reached:
    """Measure one store; `say` is told what is being measured."""
    found = lineup(url)
    say("uncontended, blocking")
    blocking = uncontended.measure(url, [one for one in found.blocking if _counts(one)], effort.rounds, effort.pairs)
    say("uncontended, asyncio")
    aio = uncontended_aio.measure(url, found.aio, effort.rounds, effort.pairs)
    handoffs, references, ratios, fairness = [], [], [], []
    for turn in range(1, effort.runs + 1):
        say(f"{PROCESSES} processes, {turn} of {effort.runs}")
        run = contended.measure(url, OURS, PROCESSES, effort.seconds)
        handoffs.append(run.handoff_p50_ms)
        fairness.append(run.jain)
        reference = _reference(url, found, effort)
        if reference is not None:
            references.append(reference)
            ratios.append(run.handoff_p50_ms / reference)
    return Reached(
        redact.url(url),
        found.goal,
        _ratio(blocking),
        _ratio(aio),
        middle(handoffs),
        middle(references) if references else None,
        middle(ratios) if ratios else None,
        middle(fairness),
    )


def _counts(contender: BlockingContender) -> bool:
    return contender.is_floor or contender.name == OURS


def _ratio(costs: list[PairCost]) -> float | None:
    return next((cost.ratio or None for cost in costs if cost.contender == OURS), None)


def _reference(url: str, found: Lineup, effort: Effort) -> float | None:
    """Milliseconds of what a hand-off is compared with."""
    name = found.goal.reference
    if found.yardstick is not None and found.yardstick.name == name:
        with found.yardstick.pair(url, f"bench-{secrets.token_hex(6)}") as once:
            uncontended.lap(once, 20)
            return middle(uncontended.lap(once, effort.pairs)) * 1e3
    if name in found.rivals:
        return contended.measure(url, name, PROCESSES, effort.seconds).handoff_p50_ms
    return None


def table(rows: list[Reached]) -> str:
    """The rows in Markdown, as docs/benchmarks.md has them."""
    titles = ["store", "pair, blocking", "pair, asyncio", "goal", "hand-off", "compared with", "ratio", "goal"]
    titles += ["Jain", "goal", "met"]
    rule = "|---|--:|--:|--:|--:|---|--:|--:|--:|--:|---|"
    return "\n".join([f"| {' | '.join(titles)} |", rule, *(_row(row) for row in rows)])


def _row(row: Reached) -> str:
    goal = row.goal
    compared = "-" if row.reference_ms is None else f"{goal.reference}: {row.reference_ms:.3f} ms"
    cells = [
        f"`{row.store}`",
        _times(row.blocking),
        _times(row.aio),
        _times(goal.pair),
        f"{row.handoff_ms:.3f} ms",
        compared,
        _times(row.handoff),
        _times(goal.handoff),
        f"{row.jain:.3f}",
        "-" if goal.jain is None else f"{goal.jain:.2f}",
        "yes" if row.met else "no",
    ]
    return f"| {' | '.join(cells)} |"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"
