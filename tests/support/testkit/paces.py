"""Stores against `pacing.decide`: the same random steps on both, compared after each of them."""

from __future__ import annotations

import random
from collections.abc import Callable

from locksmith import pacing
from locksmith.pacing import State
from locksmith.runtime import drive
from locksmith.store import Store

PLANS = (
    pacing.parse(["70/s"]),
    pacing.parse(["70/s"], 5),
    pacing.parse(["30000/s"]),
    pacing.parse(["99999/s"], 3),
    pacing.parse(["1/d"]),
    pacing.parse(["40/d"], 4),
    pacing.parse(["20/s", "100/m"], [0, 30]),
    pacing.parse(["1000/h", "7/s", "200/5m", "5000/d"], [9, 1, 20, 0]),
)
"""Rates of all sizes; some are used side by side under one key, as by two versions of a program."""
HORIZON = float(pacing.HORIZON)


def agree(store: Store, now: Callable[[], int], advance: Callable[[float], None], seed: int, steps: int = 150) -> None:
    """Fails where a store answers something else than the algorithm does."""
    dice = random.Random(seed)
    kept: dict[str, State] = {}
    keys = ["a", "b" * 300, "c"]
    plans = {key: dice.sample(PLANS, dice.choice([1, 1, 2])) for key in keys}
    booked = set()
    for _ in range(steps):
        advance(_gap(dice))
        key = dice.choice(keys)
        rates = dice.choice(plans[key])
        most = min(rate.most for rate in rates)
        cost = min(most, dice.choice([1, 1, 1, 2, 3, 7, most]))
        at_most = dice.choice([0.0, 0.0, 0.01, 3.0, HORIZON, float("inf")])
        decision = pacing.decide(kept.get(key), now(), pacing.terms(rates, cost), pacing.nanos(at_most))
        if decision.state is not None:
            kept[key] = decision.state
        assert drive(store.pace(key, rates, cost, at_most=at_most)) == decision.told(now()), (key, rates, cost, at_most)
        booked.add(decision.booked)
    assert booked == {True, False}


def _gap(dice: random.Random) -> float:
    """Seconds until the next step: none, a little, a lot, and now and then the clock is set back."""
    kind = dice.random()
    if kind < 0.2:
        return 0.0
    if kind < 0.25:
        return -(10 ** dice.uniform(-5, 5))
    if kind < 0.3:
        return 10 ** dice.uniform(2, 6)
    return 10 ** dice.uniform(-6, 1)
