"""Rate limits on a virtual clock and over a store that fails; what cancellation and closing do."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import locksmith
from locksmith import aio, registry
from locksmith.errors import ClientClosed, ConfigurationError, GuaranteeMissing, RateLimited, StoreUnavailable
from locksmith.memory import MemoryStore
from locksmith.recipes import rates
from locksmith.runtime import Blocking, drive
from locksmith.store import Guarantee
from locksmith.testing.clock import VirtualClock
from locksmith.testing.faults import FaultyStore, client_over


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def client(clock: VirtualClock) -> Iterator[locksmith.Client]:
    with locksmith.connect("memory://rates", clock=clock) as client:
        yield client


def test_waiting_takes_as_long_as_it_must(client: locksmith.Client, clock: VirtualClock) -> None:
    limit = client.rate_limit("sms", "1/m", "100/d")
    slots: list[Any] = []
    thread = threading.Thread(target=lambda: slots.extend(limit.take() for _ in range(2)))
    thread.start()
    clock.wait_for_sleepers(1)
    clock.advance(863)
    assert clock.sleeps(thread)
    clock.advance(1.1)
    thread.join(10)
    assert not thread.is_alive()
    assert slots[1].at - slots[0].at == 864_000_000


def test_too_long_a_wait_is_refused_at_once(client: locksmith.Client, clock: VirtualClock) -> None:
    limit = client.rate_limit("sms", "1/m")
    limit.take()
    with pytest.raises(RateLimited, match="'sms' is limited to 1/m") as limited:
        limit.take(wait=30)
    assert limited.value.retry_after == 60
    clock.advance(60)
    assert limit.take(wait=0).delay == 0
    with pytest.raises(RateLimited, match="'sms' for 'bob' is limited to 1/m"):
        [limit.take(wait=0, key="bob") for _ in range(2)]


def test_what_it_looks_like(client: locksmith.Client) -> None:
    limit = client.rate_limit("sms", "70/s", "1000/h", burst=(0, 10))
    assert repr(limit) == "<RateLimit 'sms', 70/s and 1000/h (burst 10), at memory://rates>"
    assert limit.name == "sms"


def test_memory_forgets(client: locksmith.Client, clock: VirtualClock) -> None:
    """Not at once, but before there is much of it."""
    store: Any = client._engine.store
    for number in range(100):
        client.rate_limit("sms", "70/s").try_take(key=f"user{number}")
    assert len(store._shared.paces) == 100
    clock.advance(120)
    client.rate_limit("sms", "70/s").try_take()
    assert list(store._shared.paces) == ["~3dsms"]


def test_a_closed_client_paces_nothing(client: locksmith.Client) -> None:
    limit = client.rate_limit("sms", "70/s")
    client.close()
    for verb in (limit.take, limit.try_take, limit.reserve):
        with pytest.raises(ClientClosed):
            verb()


def test_could_not_ask_is_neither_yes_nor_no() -> None:
    class Unreachable(FaultyStore):
        async def pace(self, *_: Any, **__: Any) -> Any:
            raise StoreUnavailable("gone")

    inner = registry.open_store("memory://unreachable", runtime=Blocking(), namespace="t")
    with client_over(Unreachable(inner)) as client:
        limit = client.rate_limit("sms", "70/s")
        for verb in (limit.take, limit.try_take, limit.reserve):
            with pytest.raises(StoreUnavailable):
                verb()


def test_a_store_without_a_clock_is_refused_with_those_that_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is built; and the interface itself paces nothing."""
    monkeypatch.setattr(MemoryStore, "guarantees", MemoryStore.guarantees & ~Guarantee.CLOCK)
    with locksmith.connect("memory://") as client:
        with pytest.raises(GuaranteeMissing) as missing:
            client.rate_limit("sms", "70/s")
        told = str(missing.value)
        assert "memory:// does not promise CLOCK, which a rate limit needs: use a store that does, such as " in told
        assert "sqlite://" in told
        assert "etcd://" not in told
        with pytest.raises(GuaranteeMissing):
            drive(super(MemoryStore, client._engine.store).pace("k", (), 1, at_most=0))  # type: ignore[misc]


def test_a_broken_entry_point_does_not_hide_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ConfigurationError("not a store")

    monkeypatch.setattr(MemoryStore, "guarantees", MemoryStore.guarantees & ~Guarantee.CLOCK)
    monkeypatch.setattr(registry, "known", broken)
    with locksmith.connect("memory://") as client, pytest.raises(GuaranteeMissing, match=r"use a store that does$"):
        client.rate_limit("sms", "70/s")


def test_places_are_one_to_one() -> None:
    pairs = [(name, key) for name in ("a", "=a", "1=a", "a=", "a=b") for key in (None, "a", "b", "=b", "1=a=b")]
    assert len({rates.place_of(*pair) for pair in pairs}) == len(pairs)
    assert len(rates.place_of("x", "y" * 10**6)) < 100


async def _cancelled(take: Callable[[], Any]) -> None:
    task = asyncio.ensure_future(take())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
async def test_whoever_is_cancelled_has_used_the_slot() -> None:
    """It is not given back: others have been given their slots after it by then."""
    async with aio.connect("memory://cancelled") as client:
        limit = client.rate_limit("sms", "1/m")
        first = await limit.reserve()
        await _cancelled(limit.take)
        assert (await limit.reserve()).at == first.at + 120_000_000
        with pytest.raises(RateLimited):
            await limit.take(wait=math.pi)
        assert await limit.try_take() is False
