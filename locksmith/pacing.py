"""How calls are paced: the generic cell rate algorithm, as plain data and whole numbers, without a clock or a store.

The algorithm is that of ITU-T I.371 (annex A) and the ATM Forum's Traffic Management 4.0: each rate keeps a theoretical
arrival time, the moment at which what was taken so far would have arrived had it kept exactly to the pace. Whatever the
limit, that is one number for each rate. Here it decides ahead: it books the next slot instead of refusing a cell.

Let a rate allow `limit` per `period` with a `burst` of b, T be `period / limit`, and V the theoretical arrival time. A
cost of n gets the slot t = max(now, V + (n - 1 - b)T), and V becomes max(t, V) + nT. So for any two bookings, the first
one at t0, the last one at tk, with N taken by them and those between: tk >= t0 + (N - 1 - b)T. In a window of one
period tk < t0 + limit * T, hence N < limit + 1 + b: never more than limit + burst. T is rounded up to whole
nanoseconds, which loses at most a thousandth of the pace and never adds to it. More than 1 + burst at once are paid for
ahead of time too: the bound holds, but who takes nothing else may reach only half of the pace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from locksmith.errors import ConfigurationError

MOST_RATES: Final = 4
"""How many rates one limit may have: a second, a minute, an hour and a day."""
HORIZON: Final = 30 * 86_400
"""Seconds: nothing later than this is booked, and limit + burst at the pace of a rate fit into it.

Three times this is below 2^53 nanoseconds (104 days), so scripts that count in doubles know every number exactly.
"""
NEVER: Final = -(2**53)
"""Nanoseconds before now, of what has not happened."""
SLOW: Final = 1_000_000_000
"""Nanoseconds between two: from here on a store that can does not forget a decision with a crash of its machine."""

_NANOS: Final = 1_000_000_000
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_UNIT: Final = r"(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)"
_RATE: Final = re.compile(rf"\s*([0-9]{{1,18}})\s*/\s*([0-9]{{0,9}})\s*{_UNIT}\s*", re.ASCII)


class Rate(NamedTuple):
    """So many per period."""

    limit: int
    period: int
    """Seconds."""
    burst: int = 0
    """How many more may come at once, beyond the pace."""

    @property
    def interval(self) -> int:
        """Nanoseconds from one to the next, rounded up."""
        return -(-self.period * _NANOS // self.limit)

    @property
    def most(self) -> int:
        """What no window of one period ever has more of."""
        return self.limit + self.burst

    def __str__(self) -> str:
        unit = next(name for name in "dhms" if self.period % _UNITS[name] == 0)
        count = self.period // _UNITS[unit]
        return f"{self.limit}/{'' if count == 1 else count}{unit}"


class Slot(NamedTuple):
    """When something may happen, by the store's clock."""

    booked: bool
    """False: nothing was taken, because the slot would be later than what was asked for."""
    delay: float
    """Seconds from the store's decision to the slot; 0 for now."""
    at: int
    """The slot in microseconds since 1970 of the store's clock, rounded up."""


class Terms(NamedTuple):
    """What a decision needs of one rate and a cost, in nanoseconds."""

    full: int
    """(limit + burst)T: so long after the last slot nothing is left of what was taken."""
    back: int
    """(cost - 1 - burst)T: where the slot is, from the theoretical arrival time."""
    step: int
    """cost * T: how much later that is afterwards."""


class State(NamedTuple):
    """What is kept of one key. Ahead of `seen`, so that a clock that was set back takes nothing along.

    The order of `leads` is that of the rates, from the shortest interval to the longest.
    """

    seen: int
    """Microseconds of the store's clock when it was written."""
    last: int
    """Nanoseconds from then to the last slot that was booked."""
    leads: tuple[int, ...]
    """Nanoseconds from then to the theoretical arrival time of each rate."""

    def lives(self, terms: Sequence[Terms]) -> int:
        """Nanoseconds after `seen` when nothing depends on this state any more."""
        return max(lead + each.full for lead, each in zip(self.leads, terms, strict=True))


class Decision(NamedTuple):
    """The slot in nanoseconds from now, whether it was booked, and what to keep; None: nothing has changed."""

    slot: int
    booked: bool
    state: State | None

    def told(self, now: int) -> Slot:
        """The same for whoever asked, at a moment in microseconds."""
        return told(self.slot, now, booked=self.booked)


def told(slot: int, now: int, *, booked: bool) -> Slot:
    """A slot in nanoseconds from a moment in microseconds."""
    return Slot(booked, slot / 1e9, now - -slot // 1000)


def decide(state: State | None, now: int, terms: Sequence[Terms], at_most: int) -> Decision:
    """Book the next slot, if it is within `at_most` nanoseconds from `now` (microseconds).

    Where the clock was set back, time has stood still since the last decision: nobody waits longer than at that moment.
    Where the rates are others than before, what is booked stays booked and comes first. After it nobody waits longer
    than a window of the new rates; where there are more or fewer of them, each goes on from the latest of the old ones.
    """
    last, leads = NEVER, (NEVER,) * len(terms)
    if state is not None:
        passed = max(0, now - state.seen) * 1000
        last = state.last - passed
        before = state.leads if len(state.leads) == len(terms) else (max(state.leads),) * len(terms)
        # The bound is of use only after other rates: of these it is true already.
        leads = tuple(min(lead - passed, last + each.full) for lead, each in zip(before, terms, strict=True))
    slot = max(0, last, *(lead + each.back for lead, each in zip(leads, terms, strict=True)))
    if slot > at_most:
        # Written all the same where the clock was set back, or time would stand still until it has caught up.
        keep = State(now, last, leads) if state is not None and now < state.seen else None
        return Decision(slot, booked=False, state=keep)
    after = tuple(max(lead, slot) + each.step for lead, each in zip(leads, terms, strict=True))
    return Decision(slot, booked=True, state=State(now, slot, after))


@lru_cache(maxsize=1024)
def terms(rates: tuple[Rate, ...], cost: int) -> tuple[Terms, ...]:
    """What a decision needs of these rates, in the order of a state's leads. Raises ConfigurationError."""
    for rate in rates:
        if cost > rate.most:
            raise ConfigurationError(
                f"{cost} at once never fit into {rate} with burst {rate.burst}: take at most {rate.most}, or in parts"
            )
    return tuple(
        Terms(rate.most * rate.interval, (cost - 1 - rate.burst) * rate.interval, cost * rate.interval)
        for rate in sorted(rates, key=lambda rate: (rate.interval, rate))
    )


def is_slow(rates: Sequence[Rate]) -> bool:
    """Whether these are so slow that forgetting one decision matters, and waiting for a disk does not."""
    return max(rate.interval for rate in rates) >= SLOW


def nanos(at_most: float) -> int:
    """How late a slot may be, as `decide` takes it: never beyond the horizon."""
    return int(min(max(at_most, 0.0), HORIZON) * 1e9)


def parse(texts: Sequence[object], burst: object = 0) -> tuple[Rate, ...]:
    """Rates from texts such as "70/s", "1000/h" or "10/15m", with one burst for all or one for each.

    Raises ConfigurationError.
    """
    if not 1 <= len(texts) <= MOST_RATES:
        raise ConfigurationError(f"a limit has one to {MOST_RATES} rates, such as '70/s', not {len(texts)}")
    bursts = list(burst) if isinstance(burst, list | tuple) else [burst] * len(texts)
    if len(bursts) != len(texts):
        raise ConfigurationError(f"burst is one number, or one for each rate: {len(texts)}, not {len(bursts)}")
    rates = tuple(_rate(text, extra) for text, extra in zip(texts, bursts, strict=True))
    if len({rate.period for rate in rates}) < len(rates):
        raise ConfigurationError("two of these rates are for the same period: keep the smaller one")
    return rates


def _rate(text: object, burst: object) -> Rate:
    found = _RATE.fullmatch(text) if isinstance(text, str) else None
    limit, count = (int(found[1]), int(found[2] or 1)) if found else (0, 0)
    if not found or not limit or not count:
        raise ConfigurationError(
            f"a rate is a whole number, a slash and a period in s, m, h or d, such as '70/s' or '10/15m', not {text!r}"
        )
    if isinstance(burst, bool) or not isinstance(burst, int) or burst < 0:
        raise ConfigurationError(f"burst is a whole number that is not negative, not {burst!r}")
    rate = Rate(limit, count * _UNITS[found[3][0]], burst)
    if rate.limit > 1_000_000 * rate.period:
        raise ConfigurationError(f"{rate} is more than one per microsecond, which no store's clock can tell apart")
    if rate.most * rate.interval > HORIZON * _NANOS:
        raise ConfigurationError(
            f"{rate} with burst {burst} takes more than {HORIZON // 86_400} days to recover: choose a shorter period, "
            f"or a smaller burst"
        )
    return rate
