"""Cases about rate limits: paced by the store's clock, for everybody together, one request for each decision."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import Any

import pytest

from locksmith import pacing
from locksmith.errors import ConfigurationError, InvalidName, RateLimited
from locksmith.store import Guarantee
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face

CLOCK = Guarantee.CLOCK


class RateCases(Cases):
    """Never more than limit + burst in any window, slots in the order of the requests, nothing taken by a refusal."""

    @case(needs=CLOCK)
    async def test_one_slot_after_the_other(self, face: Face) -> None:
        """For two clients together, exactly at the pace by the store's clock, whoever asks and however late."""
        here, there = (self.connect(face).rate_limit("r", "50/s") for _ in range(2))
        slots = [await (here, there)[turn % 2].reserve() for turn in range(40)]
        at = [slot.at for slot in slots]
        assert all(later - earlier >= 19_999 for earlier, later in pairwise(at))
        assert slots[0].delay == 0
        assert slots[-1].booked
        assert here.name == "r"

    @case(needs=CLOCK)
    async def test_slots_are_times_of_the_stores_clock(self, face: Face) -> None:
        """In microseconds; `delay` is what lies between the decision and the slot."""
        store = self.store(face)
        rates = pacing.parse(["1/m"])
        before = await store.now()
        first = await store.pace("r", rates, 1, at_most=0.0)
        second = await store.pace("r", rates, 1, at_most=60.0)
        after = await store.now()
        assert before is not None
        assert after is not None
        # SQLite and memory pace by a clock that nobody sets, and show it by the wall clock; two that never agree.
        slack = 50_000
        assert before - slack <= first.at <= after + slack
        assert second.at == first.at + 60_000_000
        assert first.delay == 0.0
        assert before - slack <= second.at - second.delay * 1e6 <= after + slack

    @case(needs=CLOCK)
    async def test_what_comes_too_early_is_refused_and_takes_nothing(self, face: Face) -> None:
        """And says when it would be time."""
        limit = self.connect(face).rate_limit("r", "1/h")
        assert await limit.try_take() is True
        for _ in range(3):
            assert await limit.try_take() is False
        for wait in (0, 5):
            with pytest.raises(RateLimited) as limited:
                await limit.take(wait=wait)
            assert 3000 < limited.value.retry_after <= 3600
        slot = await limit.reserve()
        assert 3000 < slot.delay <= 3600
        slot = await limit.reserve()
        assert 6600 < slot.delay <= 7200

    @case(needs=CLOCK)
    async def test_a_burst_comes_at_once(self, face: Face) -> None:
        """Limit and burst, together or in parts, and no more; each key by itself."""
        limit = self.connect(face).rate_limit("r", "2/h", burst=3)
        assert [await limit.try_take() for _ in range(5)] == [True] * 4 + [False]
        assert await limit.try_take(4, key="a") is True
        assert await limit.try_take(key="a") is False
        assert await limit.try_take(5, key="b") is True  # all of a window
        assert await limit.try_take(key="b") is False

    @case(needs=CLOCK)
    async def test_taking_waits_for_the_slot(self, face: Face) -> None:
        """By the clock of the store, whatever the local one says: no slot has begun before it is there."""
        client = self.connect(face)
        limit, store = client.rate_limit("r", "20/s"), self.store(face)
        began = time.monotonic()
        for _ in range(5):
            slot = await limit.take(wait=self.margin + 20)
            now = await store.now()
            assert now is not None
            assert now >= slot.at - 50_000
        assert time.monotonic() - began >= 4 / 20 * 0.95

    @case(needs=CLOCK)
    async def test_several_rates_count_together(self, face: Face) -> None:
        """All or nothing, in whatever order they are written."""
        client = self.connect(face)
        limit = client.rate_limit("r", "1000/s", "10/h", burst=[10, 2])
        assert [await limit.try_take() for _ in range(4)] == [True] * 3 + [False]
        turned = client.rate_limit("r", "10/h", "1000/s", burst=(2, 10))
        assert await turned.try_take() is False
        with pytest.raises(RateLimited) as limited:
            await turned.take(wait=0)
        assert limited.value.retry_after > 300

    @case(needs=CLOCK)
    async def test_names_keys_and_namespaces_do_not_meet(self, face: Face) -> None:
        """Nor do cells and locks of the same name; names of any length and with any character."""
        client, other = self.connect(face), self.connect(face, namespace=f"{self.namespace}o")
        names: list[tuple[str, str | None]] = [
            ("a", None), ("a=b", None), ("a", "b"), ("a", "=b"), ("a=", "b"), ("1=a=b", None), ("=a", None),
            ("A", None), ("x" * 1024, None), ("x" * 1023 + "y", None), ("x" * 1024, "k"), ("x", "k" * 5000),
            ("{é}🔒 %", "{\x00}"),
        ]  # fmt: skip
        for name, key in names:
            assert await client.rate_limit(name, "1/h").try_take(key=key) is True
            assert await client.rate_limit(name, "1/h").try_take(key=key) is False
        assert await other.rate_limit("a", "1/h").try_take() is True
        assert await client.cell("a").get() is None
        assert (await client.inspect("a")).holders == []
        assert [name async for name in client.names()] == []

    @case(needs=CLOCK)
    async def test_other_rates_go_on_from_what_is_booked(self, face: Face) -> None:
        """As while a new version is rolled out: booked slots come first, and none of the old windows is waited out."""
        client = self.connect(face)
        assert await client.rate_limit("r", "1/h").try_take() is True
        assert await client.rate_limit("r", "1/h").try_take() is False
        slot = await client.rate_limit("r", "100/s", burst=5).reserve()
        assert slot.delay <= 1.06
        later = await client.rate_limit("r", "10/m", "3/d").reserve()
        assert later.at >= slot.at

    @case(needs=CLOCK)
    async def test_together_they_never_exceed_and_hardly_fall_short(self, face: Face) -> None:
        """Several at once book and wait as fast as they can: by the store's clock, at the pace and never above it."""
        # Slow enough that also slow machines book ahead of it.
        limits = [self.connect(face).rate_limit("r", "10/s", burst=2) for _ in range(4)]
        booked: list[int] = []

        async def work(limit: Any) -> None:
            for _ in range(15):
                booked.extend([(await limit.reserve()).at for _ in range(2)])

        for job in [face.start(work(limit)) for limit in limits]:
            await job.result(60)
        booked.sort()
        assert len(booked) == 120
        assert all(booked[at + 12] - booked[at] >= 999_999 for at in range(len(booked) - 12))
        assert (len(booked) - 3) / (booked[-1] - booked[2]) >= 0.95 * 10e-6

    @case(needs=CLOCK)
    async def test_what_cannot_be_meant_is_refused_before_it_is_sent(self, face: Face) -> None:
        """Rates, bursts, costs, keys, waits."""
        client = self.connect(face)
        for rates in ((), ("0/s",), ("70",), ("70/s", "60/s"), ("1/s",) * 5, (70,), ("nan/s",)):
            with pytest.raises(ConfigurationError):
                client.rate_limit("r", *rates)
        bursts: tuple[Any, ...] = (-1, 1.5, math.nan, True, [1, 2], 10**15)
        for burst in bursts:
            with pytest.raises(ConfigurationError):
                client.rate_limit("r", "70/s", burst=burst)
        with pytest.raises(InvalidName):
            client.rate_limit("", "70/s")
        limit: Any = client.rate_limit("r", "2/h", "2/d", burst=(9, 1))
        for cost in (0, -1, 1.0, True, math.nan, math.inf, None, "1", 4, 2**63):
            for verb in (limit.try_take, limit.take, limit.reserve):
                with pytest.raises(ConfigurationError):
                    await verb(cost)
        for key in ("", 7, b"k"):
            with pytest.raises(InvalidName):
                await limit.try_take(key=key)
        for wait in (-1, math.nan, "1", True):
            with pytest.raises(ConfigurationError):
                await limit.take(wait=wait)
        assert await limit.try_take(2) is True, "nothing was taken by any of these"

    @case(needs=CLOCK)
    async def test_what_is_too_far_ahead_is_not_booked(self, face: Face) -> None:
        """Reservations reach 30 days ahead, at every pace."""
        limit = self.connect(face).rate_limit("r", "1/20d")
        assert [round((await limit.reserve()).delay / 86_400) for _ in range(2)] == [0, 20]
        with pytest.raises(RateLimited) as limited:
            await limit.reserve()
        assert 39 * 86_400 < limited.value.retry_after <= 40 * 86_400
        with pytest.raises(RateLimited):
            await limit.take(wait=None)
