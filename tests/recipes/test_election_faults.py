"""P6, P10: a fault at every call of a campaign, a proclamation and a resignation, and a cancellation at every await.

After each of them: nobody leads without the store's saying so, everybody who was told of a beginning is told of the
end, once, no value is shown in another term than its own, and somebody else can lead within bounded time.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from electionbench import TTL, Bench, Told

from locksmith.elections_aio import AsyncLeadership
from locksmith.errors import LeaseLost, StoreUnavailable
from locksmith.memory import MemoryStore
from locksmith.runtime import Blocking
from locksmith.runtime_asyncio import Asyncio
from locksmith.testing import VirtualClock, eventually
from locksmith.testing.faults import FaultyStore, When, async_client_over, cancel_everywhere, client_over, places


class Bug(Exception):
    """What no store may raise."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "unavailable": lambda: StoreUnavailable("injected"),
    "bug": lambda: Bug("injected"),
    "interrupt": KeyboardInterrupt,
    "exit": SystemExit,
}
SOON = 4.0
"""Virtual seconds in which a store that can be asked again is clean."""


def lead(b: Bench) -> None:
    b.lease = b.election.campaign(wait=5, value="one")
    b.lease.proclaim("two")
    b.clock.advance(TTL)
    b.lease.proclaim("three")
    b.lease.resign()


def in_a_block(b: Bench) -> None:
    with b.election.campaign(value="one") as b.lease:
        b.election.proclaim("two")


def close(b: Bench) -> None:
    b.lease = b.election.campaign(value="one")
    b.client.close()


def succeed(b: Bench) -> None:
    with b.rival.campaign(value="theirs"):
        pass
    b.lease = b.election.campaign(value="one")
    b.election.resign()


def run(b: Bench) -> None:
    def body(lease: Any) -> None:
        b.lease = lease
        b.clock.advance(TTL)
        lease.proclaim("two")

    b.election.run(body, value="one")


SCENARIOS = (lead, in_a_block, close, succeed, run)


def check(b: Bench) -> None:
    """The check after each fault, with a store that can be asked again."""
    b.heal()
    leader = b.rival.leader()
    if b.lease is not None and b.lease.held:
        # What believes must be believed; who got its lease in hand has been told that it leads.
        assert leader is not None
        assert leader.term == b.lease.token
        assert b.told.of == [("elected", b.lease.token)]
        b.lease.resign()
    elif leader is not None:
        # It has fallen silent, or its end is on its way: it is gone before long, and is not believed in here.
        assert b.election.leading is None
    b.clock.advance(SOON)
    eventually(lambda: b.told.what.count("elected") == b.told.what.count("lost"))
    b.told.check()
    assert b.election.leading is None
    assert b.rivals.inspect("e").holders == []
    assert b.rival.leader() is None
    with b.rival.campaign(wait=0, value="next") as next_one:
        leader = b.rival.leader()
        assert leader is not None
        assert (leader.term, leader.value) == (next_one.token, "next")
    if not b.client._engine.closed:
        before = len(b.told.of)
        b.election.campaign(wait=0).resign()
        assert b.told.what[before:] == ["elected", "lost"]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("error", ERRORS)
def test_a_fault_at_every_call(scenario: Callable[[Bench], None], error: str) -> None:
    """Before and after the store acted, at each call in turn: of any thread, or of the user's own."""
    mine = None if error in ("unavailable", "bug") else Blocking().context()
    seen: list[str] = []

    def once(number: int, when: When) -> bool:
        with Bench(f"memory://{uuid.uuid4().hex}") as b:
            met = b.store.fail_at(number, when, ERRORS[error], mine=mine)
            with b.ticking(), suppress(StoreUnavailable, Bug, KeyboardInterrupt, SystemExit, LeaseLost):
                scenario(b)
            seen.extend(call.verb for call in met)
            check(b)
            return bool(met)

    assert len(list(places(once))) >= 6
    assert {"acquire", "get", "put", "delete", "release"} <= set(seen)


@pytest.mark.native_threads
def test_a_cancellation_at_every_await() -> None:
    """In asyncio: wherever it comes, right away or just as the answer does."""

    async def main() -> int:
        clock = VirtualClock()
        url = f"memory://{uuid.uuid4().hex}"
        store = Yielding(MemoryStore.from_url(url, runtime=Asyncio(clock), namespace="t"))
        client = async_client_over(store, ttl=TTL, waiter_ttl=6.0)
        rivals = client_over(MemoryStore.from_url(url, runtime=Blocking(clock), namespace="t"), ttl=TTL, waiter_ttl=6.0)
        election, rival = client.election("e"), rivals.election("e")
        told = Told(election, clock)
        got: list[AsyncLeadership] = []

        @election.on_elected
        @election.on_lost
        async def slowly() -> None:
            await asyncio.sleep(0)

        async def scenario() -> None:
            lease = await election.campaign(value="one")
            got.append(lease)
            await lease.proclaim("two")
            await lease.resign()

        async def verify(place: int, late: bool) -> None:
            if got and got[-1].held:
                assert (leader := rival.leader()) is not None
                assert leader.term == got[-1].token
                await got[-1].resign()
            await clock.advance_async(SOON)
            told.check()
            assert told.what.count("elected") == told.what.count("lost")
            assert rivals.inspect("e").holders == []
            assert rival.leader() is None
            rival.campaign(wait=0).resign()

        number = await cancel_everywhere(scenario, verify)
        await client.close()
        rivals.close()
        return number

    assert asyncio.run(main()) >= 6


class Yielding(FaultyStore):
    """A store that lets other tasks run before and after each call, as one with a network does."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.before = self.after = lambda _: asyncio.sleep(0)


def test_an_outage_that_begins_at_every_call() -> None:
    """From the n-th call on nothing can be asked for longer than the ttl: belief ends, once, and all is cleaned up."""
    ran = 0
    for number in range(1, 12):
        with Bench(f"memory://{uuid.uuid4().hex}") as b:

            def fault(call: Any, first: int = number) -> None:
                if call.number >= first:
                    raise StoreUnavailable("injected")

            b.store.before = fault
            with b.ticking(), suppress(StoreUnavailable, LeaseLost):
                b.lease = b.election.campaign(value="one")
                ran += 1
                b.lease.proclaim("two")
                b.clock.advance(TTL)
                b.lease.resign()
            b.clock.advance(2 * TTL)
            assert b.election.leading is None
            assert b.rival.leader() is None
            b.lease = None
            check(b)
    assert ran >= 5
