"""One thread, one free lock: what a pair costs against the floor, interleaved in one run."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from locksmith_bench.contenders.base import BlockingContender, Contender, Pair
from locksmith_bench.stats import middle, percentile, spread


@dataclass(frozen=True)
class PairCost:
    """What one contender's pair costs. `ratio` is against the floor of the same run."""

    contender: str
    promises: str
    runtime: str
    pairs_per_second: float
    p50_us: float
    p99_us: float
    spread: float
    ratio: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def measure(url: str, contenders: Sequence[BlockingContender], rounds: int, pairs: int) -> list[PairCost]:
    """Interleave the contenders `rounds` times, `pairs` pairs each time; medians over the rounds."""
    laps: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    with ExitStack() as stack:
        running = [
            (contender, stack.enter_context(contender.pair(url, f"bench-{secrets.token_hex(6)}")))
            for contender in contenders
        ]
        for _, pair in running:
            lap(pair, max(20, pairs // 10))
        for _ in range(rounds):
            for contender, pair in running:
                laps[contender.name].append(lap(pair, pairs))
    return judge(contenders, laps, "blocking")


def lap(pair: Pair, pairs: int) -> list[float]:
    """Seconds of each of `pairs` pairs."""
    clock = time.perf_counter
    taken = []
    for _ in range(pairs):
        began = clock()
        pair()
        taken.append(clock() - began)
    return taken


def judge(contenders: Sequence[Contender[Any]], laps: dict[str, list[list[float]]], runtime: str) -> list[PairCost]:
    """Medians of the rounds, and the ratio to the first contender that is a floor."""
    medians = {name: [middle(one) for one in rounds] for name, rounds in laps.items()}
    floors = [contender.name for contender in contenders if contender.is_floor]
    costs = []
    for contender in contenders:
        mine = medians[contender.name]
        # The ratio of each round to the floor's in the same round: what disturbs the machine disturbs both.
        ratios = [one / floor for one, floor in zip(mine, medians[floors[0]], strict=True)] if floors else []
        means = [sum(one) / len(one) for one in laps[contender.name]]
        costs.append(
            PairCost(
                contender.name,
                contender.promises,
                runtime,
                1 / middle(means),
                middle(mine) * 1e6,
                middle([percentile(one, 0.99) for one in laps[contender.name]]) * 1e6,
                spread(mine),
                middle(ratios),
            )
        )
    return costs
