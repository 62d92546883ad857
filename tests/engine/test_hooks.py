"""Hooks and callbacks are guests: they can neither break nor delay what the engine does."""

from __future__ import annotations

import asyncio
import threading
import uuid
from functools import partial
from typing import Any

import pytest
from enginebench import Bench

import locksmith
from locksmith import events
from locksmith.memory import MemoryStore
from locksmith.runtime import Blocking
from locksmith.testing import VirtualClock, eventually
from locksmith.testing.faults import FaultyStore, client_over


def test_an_exception_in_a_hook_is_logged_and_goes_no_further(url: str, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[events.Event] = []

    def broken(event: events.Event) -> None:
        raise ZeroDivisionError("a bug of the user's")

    with locksmith.connect(url, hooks=[broken, seen.append]) as client, client.lock("n").acquire():
        pass
    assert [type(event) for event in seen] == [events.Acquired, events.Released]
    assert caplog.text.count("a hook failed") == 2


@pytest.mark.parametrize("kind", [events.Acquired, events.Queued, events.GaveUp, events.Released])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_hook_passes_and_leaves_nothing(
    url: str, kind: type[events.Event], error: type[BaseException]
) -> None:
    """Rule 3: "a raise in a hook" is one of the ways out; Ctrl-C may arrive anywhere."""

    def interrupt(event: events.Event) -> None:
        if isinstance(event, kind):
            raise error

    with locksmith.connect(url, hooks=[interrupt]) as client, locksmith.connect(url) as other:
        held = other.lock("n").acquire() if kind in (events.Queued, events.GaveUp) else None
        with pytest.raises(error):
            client.lock("n").acquire(wait=0.01).release()
        assert not other.inspect("n").waiters
        if held is not None:
            held.release()
        eventually(lambda: not other.inspect("n").holders)
        other.lock("n").acquire(wait=0).release()


def test_slow_callbacks_do_not_stall_renewals(bench: Bench) -> None:
    """On_lost and on_suspect of one lease take their time; the others are renewed meanwhile."""
    go = threading.Event()
    started: list[str] = []

    def slow(what: str) -> Any:
        def callback() -> None:
            started.append(what)
            go.wait(20)

        return callback

    evicted, other = bench.client.lock("evicted").acquire(), bench.client.lock("other").acquire()
    evicted.on_lost(slow("lost"))
    other.on_suspect(slow("suspect"))
    bench.client.evict("evicted", evicted.token)
    bench.clock.advance(10.1)
    assert not evicted.held
    bench.store.before = bench.broken("beat")
    bench.clock.advance(12.0)
    bench.store.before = None
    bench.clock.advance(300.0)
    assert other.held
    eventually(lambda: sorted(started) == ["lost", "suspect"])
    go.set()
    assert other.release() is True


def test_an_exception_in_a_callback_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    lease = bench.client.lock("n").acquire()
    told: list[int] = []

    @lease.on_lost
    def broken() -> None:
        raise ZeroDivisionError("a bug in a callback")

    lease.on_lost(lambda lease: told.append(lease.token))
    bench.client.evict("n", lease.token)
    bench.clock.advance(10.1)
    eventually(lambda: told == [lease.token])
    eventually(lambda: "a bug in a callback" in caplog.text)


def test_on_lost_is_called_once_whoever_notices_first(bench: Bench) -> None:
    """The deadline, the keeper, `held`, `release`: many notice, each callback is called once."""
    for _ in range(20):
        _lose_with_many_witnesses(bench)


def _lose_with_many_witnesses(bench: Bench) -> None:
    lease = bench.client.lock("n").acquire()
    told: list[int] = []
    for number in range(3):
        lease.on_lost(partial(told.append, number))

    def witness() -> None:
        with pytest.raises(locksmith.LeaseLost):
            lease.release()

    bench.store.before = bench.broken("beat")
    bench.clock.advance(29.6)
    threads = [threading.Thread(target=witness) for _ in range(3)]
    with bench.clock._changed:
        bench.clock._now += 0.2  # past the deadline, before the keeper has looked
    for thread in threads:
        thread.start()
    bench.store.before = None
    bench.clock.advance(1.0)
    for thread in threads:
        thread.join()
    eventually(lambda: len(told) == 3)
    bench.clock.advance(5.0)
    assert sorted(told) == [0, 1, 2]


def test_callbacks_that_are_coroutines_are_awaited_by_the_asyncio_face() -> None:
    async def main() -> list[int]:
        clock = VirtualClock()
        told: list[int] = []
        async with locksmith.aio.connect(f"memory://{uuid.uuid4().hex}", clock=clock) as client:
            lease = await client.lock("n").acquire()

            @lease.on_lost
            async def lost(lease: Any) -> None:
                await asyncio.sleep(0)
                told.append(lease.token)

            await client.evict("n", lease.token)
            await clock.advance_async(11.0)
            assert told == [lease.token]
        return told

    assert len(asyncio.run(main())) == 1


def test_cancel_on_loss_cancels_the_body_and_the_block_raises_lease_lost() -> None:
    async def main() -> str:
        clock = VirtualClock()
        async with locksmith.aio.connect(f"memory://{uuid.uuid4().hex}", clock=clock) as client:

            async def work() -> str:
                try:
                    async with client.lock("n").acquire(cancel_on_loss=True) as lease:
                        await client.evict("n", lease.token)
                        await asyncio.sleep(60)
                except locksmith.LeaseLost:
                    return "lost"
                return "finished"

            task = asyncio.ensure_future(work())
            await asyncio.sleep(0)
            await clock.advance_async(11.0)
            return await asyncio.wait_for(task, 5)

    assert asyncio.run(main()) == "lost"


def test_no_thread_is_left_after_close(url: str) -> None:
    """The keeper is the only thread of ours: started with the first lease, gone with the client."""
    before = set(threading.enumerate())
    client = locksmith.connect(url)
    assert set(threading.enumerate()) == before
    lease = client.lock("n").acquire()
    keepers = set(threading.enumerate()) - before
    assert [thread.name for thread in keepers] == ["locksmith-keeper"]
    assert all(thread.daemon for thread in keepers)
    lease.release()
    client.close()
    eventually(lambda: set(threading.enumerate()) <= before)


def test_where_no_thread_can_be_started_acquire_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 5: interpreter shutdown: unrenewed, and it says so."""
    clock = VirtualClock()
    runtime = Blocking(clock)
    monkeypatch.setattr(runtime, "background", lambda work, name: None)
    store = FaultyStore(MemoryStore.from_url(f"memory://{uuid.uuid4().hex}", runtime=runtime, namespace="t"))
    seen: list[events.Event] = []
    with client_over(store, ttl=30.0, hooks=[seen.append]) as client:
        lease = client.lock("n").acquire()
        assert lease.held
        assert [type(event) for event in seen] == [events.Unrenewed, events.Acquired]
        clock.advance(31.0)
        assert not lease.held
