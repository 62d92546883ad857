"""The algorithm alone: never more than limit + burst in any window, nearly all of the pace, and what it keeps."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locksmith import pacing
from locksmith.errors import ConfigurationError
from locksmith.pacing import HORIZON, Rate, State, decide, is_slow, nanos, parse, terms

BEGAN = 1_700_000_000_000_000
FOR_EVER = nanos(float("inf"))


def rates_of(limit: int, period: int, burst: int) -> Rate:
    try:
        return parse([f"{limit}/{period}s"], burst)[0]
    except ConfigurationError:
        return Rate(limit, period, 0)


RATES = st.builds(
    rates_of,
    st.one_of(st.integers(1, 100), st.integers(1, 100_000)),
    st.sampled_from([1, 1, 7, 60, 3600, 86_400]),
    st.one_of(st.just(0), st.integers(0, 5), st.integers(0, 10_000)),
)
PLANS = st.lists(RATES, min_size=1, max_size=3, unique_by=lambda rate: rate.period)
STEPS = st.lists(
    st.tuples(
        st.floats(0, 1),  # the gap, as a power of ten
        st.integers(1, 12),  # the cost, as a share of what may be taken
        st.sampled_from([0, 0, 10**7, 10**9, FOR_EVER]),
    ),
    min_size=1,
    max_size=60,
)


class Limit:
    """A limit, its clock, and everything that was taken: nanoseconds and cost."""

    def __init__(self, *rates: Rate) -> None:
        self.now = BEGAN
        self.state: State | None = None
        self.taken: list[tuple[int, int]] = []
        self.told: list[tuple[int, int]] = []
        self.rates = tuple(rates)

    def take(self, cost: int = 1, at_most: int = FOR_EVER) -> int:
        """Nanoseconds to the slot; negative where it was refused."""
        decision = decide(self.state, self.now, terms(self.rates, cost), at_most)
        if decision.state is not None:
            self.state = decision.state
        if not decision.booked:
            return -decision.slot
        self.taken.append((self.now * 1000 + decision.slot, cost))
        self.told.append((decision.told(self.now).at, cost))
        return decision.slot


def most_in_a_window(taken: list[tuple[int, int]], period: int) -> int:
    """The most that any half-open window has: one that begins with something taken."""
    taken = sorted(taken)
    most = within = first = 0
    for at, cost in taken:
        within += cost
        while taken[first][0] <= at - period:
            within -= taken[first][1]
            first += 1
        most = max(most, within)
    return most


def hold_promises(limit: Limit) -> None:
    for rate in limit.rates:
        assert most_in_a_window(limit.taken, rate.period * 10**9) <= rate.limit + rate.burst
        # As users see them, in whole microseconds.
        assert most_in_a_window(limit.told, rate.period * 10**6) <= rate.limit + rate.burst


@given(PLANS, STEPS)
def test_no_window_ever_holds_more_than_limit_and_burst(rates: list[Rate], steps: list[tuple[float, int, int]]) -> None:
    limit = Limit(*rates)
    most = min(rate.most for rate in rates)
    scale = max(rate.interval for rate in rates) / 1000
    for gap, share, at_most in steps:
        limit.now += int(scale * (10 ** (4 * gap) - 1) / 10)
        limit.take(max(1, most * share // 12) if share > 6 else min(share, most), at_most)
    hold_promises(limit)
    assert [at for at, _ in limit.taken] == sorted(at for at, _ in limit.taken), "who books first comes first"


@given(RATES, st.integers(1, 5))
def test_saturated_it_reaches_nearly_all_of_the_pace(rate: Rate, cost: int) -> None:
    """At least 95 % (in fact 99.9 %) in every stretch of time, and never more; for costs up to 1 + burst."""
    cost = min(cost, 1 + rate.burst)
    limit = Limit(rate)
    while len(limit.taken) < 400 and limit.take(cost) >= 0:
        pass
    paced = [at for at, _ in limit.taken if at > BEGAN * 1000]
    if len(paced) < 2:
        return
    reached = Fraction((len(paced) - 1) * cost * rate.period * 10**9, rate.limit * (paced[-1] - paced[0]))
    assert Fraction(999, 1000) <= reached <= 1
    hold_promises(limit)


@pytest.mark.parametrize("text", ["100000/s", "99999/s", "70001/s", "30000/s", "70/s", "7/s", "1000/h", "3/d", "1/d"])
@pytest.mark.parametrize("burst", [0, 3])
def test_the_pace_holds_for_rates_of_all_sizes(text: str, burst: int) -> None:
    """On a clock of microseconds, without adding up what is rounded."""
    (rate,) = parse([text], burst)
    limit = Limit(rate)
    while len(limit.taken) < 5000 and limit.take() >= 0:
        pass
    hold_promises(limit)
    asked = 30 * rate.limit * 86_400 // rate.period
    assert len(limit.taken) == min(5000, asked + burst + 1), "reservations reach as far as the horizon, not further"
    exact = Fraction(rate.period * 10**9 * (len(limit.taken) - 1 - burst), rate.limit)
    assert exact <= limit.taken[-1][0] - limit.taken[0][0] <= exact * Fraction(1001, 1000)


@pytest.mark.parametrize("period", [1, 60])
def test_who_waits_for_slots_loses_nothing_by_being_late(period: int) -> None:
    """Each of eight books, comes back a little after its slot, and books again: the whole pace, exactly."""
    limit = Limit(Rate(70, period))
    due = [0] * 8
    for turn in range(4000):
        who = min(range(8), key=due.__getitem__)
        limit.now = max(limit.now, BEGAN + due[who])
        late = turn * 7919 % 3000 * period
        due[who] = limit.now - BEGAN + -(-limit.take() // 1000) + late
    span = (limit.taken[-1][0] - limit.taken[0][0]) / 1e9
    assert 3999 / span >= 0.999 * 70 / period
    hold_promises(limit)


def test_a_burst_comes_at_once_and_again_when_it_was_saved_up() -> None:
    limit = Limit(*parse(["10/s"], 5))
    assert [limit.take(at_most=0) for _ in range(7)] == [0, 0, 0, 0, 0, 0, -100_000_000]
    limit.now += 250_000
    assert [limit.take(at_most=0) >= 0 for _ in range(3)] == [True, True, False]
    limit.now += 3_600_000_000
    assert [limit.take(at_most=0) >= 0 for _ in range(7)] == [True] * 6 + [False]


def test_several_rates_are_decided_together() -> None:
    """All or nothing: what the day refuses is not taken from the second."""
    limit = Limit(*parse(["10/s", "100/d"], [0, 20]))
    taken = 0
    while limit.take(at_most=0) == 0:
        taken += 1
        limit.now += 100_000
    assert taken == 21
    hold_promises(limit)
    kept = limit.state
    limit.now += 50_000
    assert limit.take(at_most=nanos(0.1)) < 0
    assert limit.state is kept


def test_more_than_a_burst_at_once_is_paid_for_ahead_of_time() -> None:
    limit = Limit(Rate(10, 1))
    assert limit.take(10) == 0
    assert limit.take(1) == 1_000_000_000
    assert limit.take(10) == 2_000_000_000
    hold_promises(limit)


# Other rates under the same key, as while a new version is rolled out.


@given(PLANS, PLANS, st.integers(0, 200), st.integers(0, 10**7))
def test_after_other_rates_nobody_waits_longer_than_their_own_window(
    old: list[Rate], new: list[Rate], before: int, gap: int
) -> None:
    """What is booked stays booked and comes first; from there on the new rates hold among themselves."""
    limit = Limit(*old)
    for _ in range(before):
        limit.take()
    booked = limit.taken[-1][0] if limit.taken else 0
    limit.now += gap
    limit.rates, limit.taken, limit.told = tuple(new), [], []
    slot = abs(limit.take()) + limit.now * 1000
    longest = max(rate.most * rate.interval for rate in new)
    assert booked <= slot <= max(booked, limit.now * 1000) + longest
    for _ in range(100):
        limit.take()
    hold_promises(limit)


def test_a_generous_rate_does_not_wait_out_a_strict_one() -> None:
    limit = Limit(*parse(["1/d"]))
    assert limit.take() == 0
    limit.rates = parse(["70/s"])
    limit.now += 10_000_000
    assert limit.take(at_most=0) == 0


def test_two_versions_side_by_side_keep_to_the_order_and_to_the_stricter_rate() -> None:
    limit = Limit()
    loose, strict = parse(["100/s"]), parse(["10/s"])
    for turn in range(200):
        limit.rates = (loose, strict)[turn % 2]
        limit.take()
    at = [at for at, _ in limit.taken]
    assert at == sorted(at)
    assert most_in_a_window(limit.taken, 10**9) <= 100
    assert most_in_a_window(limit.taken[1::2], 10**9) <= 10


# A clock that is set back.


@given(RATES, st.integers(0, 50), st.integers(1, 10**15))
def test_a_clock_set_back_locks_nobody_out(rate: Rate, before: int, back: int) -> None:
    """Nobody waits longer than they would have had at the last decision, and time goes on from there."""
    limit = Limit(rate)
    for _ in range(before):
        limit.take()
    lead = 0 if limit.state is None else limit.state.leads[0]
    limit.now -= back
    slot = limit.take(at_most=0)
    assert -slot <= lead
    if slot < 0:
        limit.now += -slot // 1000 + 1
        assert limit.take(at_most=0) == 0, "what was refused has made time go on"


def test_a_clock_set_back_again_and_again_forgets_nothing() -> None:
    limit = Limit(Rate(1, 86_400))
    assert limit.take() == 0
    for _ in range(10):
        limit.now -= 3600 * 10**6
        assert limit.take(at_most=0) == -86_400 * 10**9


# What is kept.


@given(PLANS, STEPS, st.integers(1, 12))
def test_what_is_forgotten_would_have_changed_nothing(
    rates: list[Rate], steps: list[tuple[float, int, int]], share: int
) -> None:
    limit = Limit(*rates)
    most = min(rate.most for rate in rates)
    for gap, part, at_most in steps:
        limit.now += int(gap * 10**6)
        limit.take(min(part, most), at_most)
    if limit.state is None:
        return
    limit.now = limit.state.seen + -(-limit.state.lives(terms(limit.rates, 1)) // 1000)
    cost = max(1, most * share // 12)
    with_it = decide(limit.state, limit.now, terms(limit.rates, cost), FOR_EVER)
    assert with_it == decide(None, limit.now, terms(limit.rates, cost), FOR_EVER)


@given(st.lists(RATES, min_size=1, max_size=4, unique_by=lambda rate: rate.period), st.integers(1, 300))
def test_all_numbers_are_exact_as_doubles(rates: list[Rate], count: int) -> None:
    """Scripts count in them; whatever is asked for, nothing grows beyond 2^53."""
    limit = Limit(*rates)
    most = min(rate.most for rate in rates)
    for turn in range(count):
        limit.take(most if turn % 3 else 1)
    assert limit.state is not None
    assert limit.state.lives(terms(limit.rates, most)) < 2**53
    assert all(abs(number) < 2**53 for each in terms(limit.rates, most) for number in each)


# What is refused.


@pytest.mark.parametrize(
    "text",
    ["0/s", "-1/s", "+1/s", "1.5/s", "1e3/s", "nan/s", "inf/s", "70", "70/", "/s", "70/x", "70/0s", "70/1.5s", "70/ss",
     "70/-1s", "1/31d", "1000001/s", "9" * 40 + "/d", "1/" + "9" * 9 + "d", "", "\u0667/s", None, 70, 70.0, b"70/s"],
)  # fmt: skip
def test_what_is_no_rate(text: Any) -> None:
    with pytest.raises(ConfigurationError):
        parse([text])


@pytest.mark.parametrize("burst", [-1, 1.0, True, None, "1", float("nan"), float("inf"), 10**12, [0, 0], []])
def test_what_is_no_burst(burst: Any) -> None:
    with pytest.raises(ConfigurationError):
        parse(["70/s"], burst)


def test_how_rates_are_written() -> None:
    for text, rate in {
        "70/s": Rate(70, 1), " 70 / sec ": Rate(70, 1), "5/second": Rate(5, 1), "1000/h": Rate(1000, 3600),
        "10/15m": Rate(10, 900), "10/15 minutes": Rate(10, 900), "1/day": Rate(1, 86_400), "1000000/s": Rate(10**6, 1),
    }.items():  # fmt: skip
        assert parse([text]) == (rate,)
        assert parse([str(rate)]) == (rate,)
    assert parse(["70/s", "1000/h"], [1, 2]) == (Rate(70, 1, 1), Rate(1000, 3600, 2))
    assert parse(["70/s", "1000/h"], 3) == (Rate(70, 1, 3), Rate(1000, 3600, 3))
    for texts in ([], ["1/s"] * 5, ["1/s", "2/s"], ["60/m", "1/60s"]):
        with pytest.raises(ConfigurationError):
            parse(texts)


def test_costs_that_never_fit() -> None:
    with pytest.raises(ConfigurationError, match="at most 75"):
        terms(parse(["70/s", "1000/h"], 5), 76)


def test_how_late_a_slot_may_be() -> None:
    assert [nanos(each) for each in (0.0, -1.0, 0.5, float("inf"))] == [0, 0, 500_000_000, HORIZON * 10**9]
    assert [is_slow(parse([text])) for text in ("2/s", "1/s", "100/h", "100/s")] == [False, True, True, False]
    assert pacing.told(1500, 10, booked=True) == (True, 1.5e-06, 12)
