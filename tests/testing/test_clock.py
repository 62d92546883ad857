"""The virtual clock: time stands still until a test moves it, and everybody who slept has acted when it returns."""

import asyncio
import threading
import time

import pytest

import locksmith
from locksmith.runtime import Blocking, ThreadEvent, drive
from locksmith.testing import VirtualClock


def test_time_stands_still_until_it_is_advanced() -> None:
    clock = VirtualClock(start=5.0)
    assert clock.now() == 5.0
    clock.advance(2.5)
    assert clock.now() == 7.5
    with pytest.raises(ValueError, match="finite"):
        clock.advance(float("nan"))


def test_timers_fire_in_order_each_at_its_own_time() -> None:
    clock = VirtualClock(start=0.0)
    seen: list[tuple[str, float]] = []

    def note(what: str) -> None:
        seen.append((what, clock.now()))

    for due, what in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (9.0, "never")):
        clock.call_later(due, lambda what=what: note(what))  # type: ignore[misc]
    clock.call_later(2.5, lambda: note("cancelled"))()
    clock.advance(5.0)
    assert seen == [("a", 1.0), ("b", 2.0), ("c", 3.0)]
    assert clock.now() == 5.0


def test_a_sleeping_thread_wakes_at_its_time() -> None:
    clock = VirtualClock()
    woke: list[float] = []

    def sleep() -> None:
        drive(Blocking(clock).sleep(10.0))
        woke.append(clock.now())

    thread = threading.Thread(target=sleep)
    began = clock.now()
    thread.start()
    clock.wait_for_sleepers(1)
    clock.advance(9.0)
    assert woke == []
    clock.advance(5.0)
    assert woke == [began + 10.0]
    thread.join()
    assert clock.sleepers == 0


def test_an_event_without_bound_counts_as_a_sleeper_until_it_is_set() -> None:
    clock = VirtualClock()
    event = ThreadEvent(clock)
    thread = threading.Thread(target=lambda: drive(event.wait(None)))
    thread.start()
    clock.wait_for_sleepers(1)
    clock.advance(1e6)
    assert clock.sleepers == 1
    event.set()
    thread.join(5)
    assert clock.sleepers == 0


def test_the_keeper_renews_through_any_stretch_of_time() -> None:
    clock = VirtualClock()
    with locksmith.connect("memory://clock-1", clock=clock) as client:
        lease = client.lock("x", ttl=30).acquire()
        began = time.monotonic()
        clock.advance(3600)
        assert lease.held
        assert time.monotonic() - began < 10
        assert lease.remaining() > 15
        assert lease.release() is True


def test_a_waiting_thread_gets_its_turn_or_its_timeout() -> None:
    clock = VirtualClock()
    with locksmith.connect("memory://clock-2", clock=clock) as client:
        lease = client.lock("x", ttl=30).acquire()
        outcome: list[object] = []

        def impatient() -> None:
            try:
                client.lock("x").acquire(wait=5)
            except locksmith.AcquireTimeout:
                outcome.append(clock.now())

        thread = threading.Thread(target=impatient)
        began = clock.now()
        thread.start()
        clock.wait_for_sleepers(2)  # the waiter and the keeper
        clock.advance(4.9)
        assert outcome == []
        clock.advance(0.2)
        thread.join(5)
        assert outcome == [began + 5.0]
        lease.release()


async def _async_lease() -> None:
    clock = VirtualClock()
    async with locksmith.aio.connect("memory://clock-3", clock=clock) as client:
        lease = await client.lock("x", ttl=30).acquire()
        waiter = asyncio.ensure_future(client.lock("x").acquire(wait=7200).__aenter__())
        await clock.advance_async(3600)
        assert lease.held
        assert not waiter.done()
        await lease.release()
        second = await waiter
        assert second.token > lease.token
        await second.release()


def test_tasks_act_between_the_steps() -> None:
    asyncio.run(_async_lease())


def test_two_clocks_have_two_worlds() -> None:
    with (
        locksmith.connect("memory://clock-4", clock=VirtualClock()) as one,
        locksmith.connect("memory://clock-4", clock=VirtualClock()) as other,
    ):
        lease = one.lock("x").acquire()
        other.lock("x").acquire(wait=0).release()
        lease.release()
