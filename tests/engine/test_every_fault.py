"""F16, rules 2 and 3: a fault at every single call, and a cancellation at every single await, one after the other.

After each of them: nobody believes what is not so, and within bounded time nothing is left on the store.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from locksmith.aio import AsyncLease
from locksmith.client import Client, Lease
from locksmith.errors import AcquireTimeout, ClientClosed, LeaseLost, StoreUnavailable
from locksmith.memory import MemoryStore
from locksmith.runtime import Blocking, Runtime
from locksmith.runtime_asyncio import Asyncio
from locksmith.testing import VirtualClock, eventually
from locksmith.testing.faults import (
    FaultyStore,
    When,
    async_client_over,
    cancel_everywhere,
    client_over,
    places,
)

TTL, WAITER_TTL = 12.0, 6.0
SOON = 4.0
"""Virtual seconds in which a store that can be asked again is clean: two of the longest pauses between two tries."""


class Bug(Exception):
    """What no store may raise."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "unavailable": lambda: StoreUnavailable("injected"),
    "bug": lambda: Bug("injected"),
    "interrupt": KeyboardInterrupt,
    "exit": SystemExit,
    "cancelled": asyncio.CancelledError,
}
EVERYWHERE = ("unavailable", "bug")
"""Errors that any call may meet; the others only reach the user's own thread."""


@dataclass
class World:
    """A client whose store fails, a rival whose store does not, and the time they share."""

    clock: VirtualClock
    store: FaultyStore
    client: Client
    rival: Client
    lease: Lease | None = None


@contextmanager
def world() -> Iterator[World]:
    clock = VirtualClock()
    url = f"memory://{uuid.uuid4().hex}"

    def store(runtime: Runtime) -> MemoryStore:
        return MemoryStore.from_url(url, runtime=runtime, namespace="t")

    faulty = FaultyStore(store(Blocking(clock)))
    client = client_over(faulty, ttl=TTL, waiter_ttl=WAITER_TTL)
    rival = client_over(store(Blocking(clock)), ttl=TTL, waiter_ttl=WAITER_TTL)
    with rival, client:
        yield World(clock, faulty, client, rival)


# The scenarios. Each may raise the injected error; `world.lease` is what the user has in hand, if anything.


def hold_and_release(w: World) -> None:
    w.lease = w.client.lock("n").acquire(wait=5)
    w.clock.advance(TTL)  # renewed at a third and at two thirds
    w.lease.check()
    w.lease.release()


def with_block(w: World) -> None:
    with w.client.lock("n").acquire() as w.lease:
        w.clock.advance(TTL / 2)


def try_once(w: World) -> None:
    w.lease = w.client.lock("n").try_acquire()
    assert w.lease is not None
    w.lease.release()


@contextmanager
def meanwhile(w: World, act: Callable[[], object]) -> Iterator[None]:
    """Run `act` on another thread as soon as this one sleeps, or has left the block."""
    here, left = threading.current_thread(), threading.Event()

    def run() -> None:
        eventually(lambda: left.is_set() or w.clock.sleeps(here), within=20)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def wait_for_a_turn(w: World) -> None:
    held = w.rival.lock("n").acquire()
    with meanwhile(w, lambda: (w.clock.advance(3.0), held.release())):
        w.lease = w.client.lock("n").acquire(wait=60)
    w.clock.advance(1.0)  # confirmed
    w.lease.release()


def wait_in_vain(w: World) -> None:
    held = w.rival.lock("n").acquire()
    try:
        with meanwhile(w, lambda: w.clock.advance(8.0)), pytest.raises(AcquireTimeout):
            w.client.lock("n").acquire(wait=7.0)
    finally:
        held.release()


def close_while_holding(w: World) -> None:
    w.lease = w.client.lock("n").acquire()
    w.client.close()


SCENARIOS = (hold_and_release, with_block, try_once, wait_for_a_turn, wait_in_vain, close_while_holding)


def clean(w: World) -> None:
    """The check after each fault, with a store that can be asked again."""
    w.store.before = w.store.after = None
    if w.lease is not None and w.lease.held:
        # What believes must be believed: the store says the same, and it can be given back.
        assert w.rival.lock("n").try_acquire() is None
        w.lease.release()
    w.clock.advance(SOON)
    found = w.rival.inspect("n")
    assert not found.holders
    assert not found.waiters
    assert w.lease is None or not w.lease.held
    with w.rival.lock("n").acquire(wait=0):
        pass
    if not w.client._engine.closed:
        with w.client.lock("n").acquire(wait=0) as lease:
            w.clock.advance(2 * TTL)  # the keeper is alive and well
            lease.check()


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("error", ERRORS)
def test_a_fault_at_every_call(scenario: Callable[[World], None], error: str) -> None:
    """Before and after the store acted, at each call of the client in turn: of any thread, or of the user's own."""
    mine = None if error in EVERYWHERE else Blocking().context()
    seen: list[str] = []

    def run(number: int, when: When) -> bool:
        with world() as w:
            met = w.store.fail_at(number, when, ERRORS[error], mine=mine)
            try:
                scenario(w)
            except (StoreUnavailable, Bug, KeyboardInterrupt, SystemExit, asyncio.CancelledError) as raised:
                passed_through = "injected" in str(raised) or not isinstance(raised, Exception)
            except LeaseLost:
                passed_through = error in EVERYWHERE
            else:
                passed_through = True
            assert passed_through
            seen.extend(call.verb for call in met)
            clean(w)
            return bool(met)

    assert len(list(places(run))) >= 4
    assert {"acquire"} <= set(seen)


@pytest.mark.parametrize("scenario", [hold_and_release, wait_for_a_turn, wait_in_vain])
def test_an_outage_that_begins_at_every_call(scenario: Callable[[World], None]) -> None:
    """From the n-th call on nothing can be asked for longer than the ttl; belief ends, and then all is cleaned up."""
    for number in range(1, 40):
        with world() as w:
            calls = len(w.store.calls)

            def fault(call: Any, first: int = calls + number) -> None:
                if call.number >= first:
                    raise StoreUnavailable("injected")

            w.store.before = fault
            with suppress(StoreUnavailable, LeaseLost):
                scenario(w)
            reached = len(w.store.calls) - calls >= number
            w.clock.advance(2 * TTL)
            assert w.lease is None or not w.lease.held
            w.store.before = None
            clean(w)
        if not reached:
            return
    raise AssertionError("the scenario does not end")


# Cancellation at every await.


def async_scenarios(w: Any) -> dict[str, Callable[[], Any]]:
    async def uncontended() -> None:
        lease = await w.client.lock("n").acquire()
        w.leases.append(lease)
        await lease.release()

    async def contended() -> None:
        held = await w.rival.lock("n").acquire()
        asyncio.get_running_loop().call_later(0.003, lambda: w.spawn(held.release()))
        try:
            async with w.client.lock("n").acquire(wait=5) as lease:
                w.leases.append(lease)
                await asyncio.sleep(0)
        finally:
            if held.held:
                await asyncio.shield(w.spawn(held.release()))

    async def in_vain() -> None:
        async with w.rival.lock("n").acquire():
            with suppress(AcquireTimeout):
                await w.client.lock("n").acquire(wait=0.005)

    async def closing() -> None:
        client = w.another()
        w.leases.append(await client.lock("n").acquire())
        await client.close()

    async def closing_while_waiting() -> None:
        client = w.another()
        async with w.rival.lock("n").acquire():
            waiting = w.spawn(client.lock("n").acquire().__aenter__())
            await asyncio.sleep(0)
            await client.close()
            with pytest.raises(ClientClosed):
                await waiting

    return {f.__name__: f for f in (uncontended, contended, in_vain, closing, closing_while_waiting)}


class AsyncWorld:
    """Clients on an event loop, on real time, and the tasks that must end before the loop does."""

    def __init__(self) -> None:
        self.url = f"memory://{uuid.uuid4().hex}"
        self.client = self.another()
        self.rival = self.another()
        self.leases: list[Any] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._clients: list[Any]

    def another(self) -> Any:
        class Suspending(MemoryStore):
            """A store with an await in each of its calls, before it acts and after, as sockets have."""

        def slow(verb: str) -> Any:
            inner = getattr(MemoryStore, verb)

            async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
                await asyncio.sleep(0)
                answer = await inner(self, *args, **kwargs)
                await asyncio.sleep(0)
                return answer

            return call

        for verb in ("acquire", "beat", "release", "abandon"):
            setattr(Suspending, verb, slow(verb))
        made = async_client_over(Suspending.from_url(self.url, runtime=Asyncio(), namespace="t"))
        self.__dict__.setdefault("_clients", []).append(made)
        return made

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    async def check(self, place: int, late: bool) -> None:
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        # A task that went on while the scenario was cancelled has what it asked for.
        self.leases += [end for end in ends if isinstance(end, AsyncLease)]
        for lease in self.leases:
            if lease.held:
                await lease.release()
        self.leases.clear()
        for _ in range(1000):
            found = await self.rival.inspect("n")
            if not found.holders and not found.waiters:
                break
            await asyncio.sleep(0.001)
        else:
            raise AssertionError(f"left behind after a cancellation at await {place}, late={late}: {found}")
        async with self.rival.lock("n").acquire(wait=0):
            pass

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


@pytest.mark.parametrize("name", async_scenarios(None))
def test_a_cancellation_at_every_await(name: str) -> None:
    """Complaints 8 and 13, nastiest scenario 11: cancelled at each suspension, and just as its answer arrives."""

    async def main() -> int:
        w = AsyncWorld()
        try:
            return await cancel_everywhere(async_scenarios(w)[name], w.check)
        finally:
            await w.close()

    assert asyncio.run(main()) >= 3


def test_a_coroutine_that_is_thrown_away_leaves_nothing() -> None:
    """GeneratorExit: an acquisition that nobody will ever step again may not await, but the keeper can."""
    with world() as w:
        engine, permits = w.client._engine, w.client.lock("n")._permits

        async def slow(call: Any) -> None:
            if call.verb == "acquire":
                await asyncio.sleep(0)

        w.store.after = slow
        work = engine.acquire(permits.claim(), None)
        work.send(None)
        assert len(w.rival.inspect("n").holders) == 1
        work.close()
        w.store.after = None
        eventually(lambda: not w.rival.inspect("n").holders)
