"""`run`: leading whenever that is possible, until the work is done or nobody wants it any more."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from electionbench import Bench, Told

import locksmith
from locksmith.elections import Leadership
from locksmith.elections_aio import AsyncLeadership
from locksmith.errors import ClientClosed, LeaseLost, StoreUnavailable
from locksmith.testing import eventually
from locksmith.testing.faults import Call


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


def test_what_the_function_returned_is_returned(bench: Bench) -> None:
    """After resigning."""
    assert bench.election.run(lambda lease: (lease.held, lease.term), value=1)[0] is True  # type: ignore[index]
    assert bench.told.what == ["elected", "lost"]
    assert bench.election.leading is None
    assert bench.rivals.inspect("e").holders == []


def test_what_the_function_raises_is_raised(bench: Bench) -> None:
    """After resigning; a loss of something else is not taken for the loss of leadership."""
    for error in (RuntimeError("mine"), LeaseLost("of another lease"), StoreUnavailable("of another store")):

        def fails(lease: Leadership, error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error), match=str(error)):
            bench.election.run(fails)
    assert bench.told.what == ["elected", "lost"] * 3
    assert bench.rivals.inspect("e").holders == []


def test_after_a_loss_it_stands_again(url: str) -> None:
    """Also where the function did not notice, and returned."""
    with locksmith.connect(url) as client:
        election = client.election("e", ttl=0.3)
        terms: list[int] = []

        def work(lease: Leadership) -> int:
            terms.append(lease.term)
            if len(terms) < 3:
                client.evict("e", lease.token)
                assert lease.lost.wait(20)
            if len(terms) == 1:
                lease.check()
            return len(terms)

        told = Told(election, client._engine.runtime.clock)  # type: ignore[arg-type]
        assert election.run(work) == 3
        assert terms == sorted(set(terms))
        eventually(lambda: len(told.of) == 6)
        told.check()


def test_an_outage_is_outlived(bench: Bench) -> None:
    """Nobody can be elected meanwhile; then somebody is."""
    left = [4]

    def fault(call: Call) -> None:
        if call.verb == "acquire" and left[0]:
            left[0] -= 1
            raise StoreUnavailable("away")

    bench.store.before = fault
    with bench.ticking():
        assert bench.election.run(lambda lease: "led") == "led"
    assert left == [0]


def test_settings_that_cannot_work_are_no_outage(bench: Bench) -> None:
    """They end it."""
    with pytest.raises(locksmith.ConfigurationError):
        bench.election.run(lambda lease: None, value=object())
    bench.client.close()
    with pytest.raises(ClientClosed):
        bench.election.run(lambda lease: None)


def test_a_standby_can_be_stopped(url: str) -> None:
    """While it waits: it leaves the line at once, and has led nothing."""
    with locksmith.connect(url) as client, locksmith.connect(url) as other:
        held = other.election("e").campaign()
        stop, results = threading.Event(), list[Any]()
        standby = threading.Thread(target=lambda: results.append(client.election("e").run(lambda lease: 1, stop=stop)))
        standby.start()
        eventually(lambda: other.inspect("e").waiters)
        stop.set()
        standby.join(10)
        assert results == [None]
        assert other.inspect("e").waiters == []
        assert held.held


def test_a_leader_can_be_stopped(url: str) -> None:
    """The function sees the flag; what it returns is returned, and no further campaign begins."""
    with locksmith.connect(url) as client:
        stop, leads = threading.Event(), threading.Event()
        results: list[Any] = []

        def work(lease: Leadership) -> str:
            leads.set()
            assert stop.wait(10)
            return "stopped"

        leader = threading.Thread(target=lambda: results.append(client.election("e").run(work, stop=stop)))
        leader.start()
        assert leads.wait(10)
        stop.set()
        leader.join(10)
        assert results == ["stopped"]
        assert client.inspect("e").holders == []
        assert client.election("e").run(work, stop=stop) is None


def test_a_flag_raised_during_an_outage_ends_it(bench: Bench) -> None:
    """It does not sleep on."""
    stop = threading.Event()

    def fault(call: Call) -> None:
        stop.set()
        raise StoreUnavailable("away")

    bench.store.before = fault
    assert bench.election.run(lambda lease: None, stop=stop) is None


async def _until(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await ask():  # noqa: ASYNC110 - the store's state has no event
            await asyncio.sleep(0.001)


async def _waits(client: locksmith.aio.AsyncClient) -> bool:
    return bool((await client.inspect("e")).waiters)


async def _ended(client: locksmith.aio.AsyncClient, told: Told) -> bool:
    return told.what == ["elected", "lost"] and not (await client.inspect("e")).holders


@pytest.mark.native_threads
def test_cancelling_it_cancels_the_function_and_resigns(url: str) -> None:
    """Clean: on_lost has been called, nobody holds the name."""

    async def main() -> None:
        async with locksmith.aio.connect(url) as client:
            election = client.election("e")
            told = Told(election, client._engine.runtime.clock)  # type: ignore[arg-type]
            cancelled = []

            async def work(lease: AsyncLeadership) -> None:
                leads.set()
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    cancelled.append(lease.held)
                    raise

            leads = asyncio.Event()
            task = asyncio.create_task(election.run(work))
            await leads.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert cancelled == [True]  # the work has ended before the name is given back
            assert told.what == ["elected", "lost"]
            assert (await client.inspect("e")).holders == []
            # Standing by, it leaves the line.
            held = await client.election("e").campaign()
            task = asyncio.create_task(election.run(work))
            await _until(lambda: _waits(client))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.inspect("e")).waiters == []
            assert await held.resign()

    asyncio.run(main())


@pytest.mark.native_threads
def test_a_campaign_may_cancel_its_task_on_loss(url: str) -> None:
    """As an acquisition may."""

    async def main() -> None:
        async with locksmith.aio.connect(url) as client:
            election = client.election("e", ttl=0.3)

            async def lead() -> None:
                async with election.campaign(cancel_on_loss=True) as lease:
                    await client.evict("e", lease.token)
                    await asyncio.sleep(100)

            with pytest.raises(LeaseLost):
                await lead()
            async with election.campaign() as lease:
                assert repr(election).endswith("(leads)>")
                assert (lease.term, election.leading) == (lease.token, lease)

    asyncio.run(main())


@pytest.mark.native_threads
@pytest.mark.parametrize("how", ["campaign", "run"])
def test_what_is_thrown_away_leads_no_more(url: str, how: str) -> None:
    """A coroutine that is closed may await nothing: its term ends as if it were lost, and that is told."""

    async def main() -> None:
        async with locksmith.aio.connect(url) as client:
            election = client.election("e", ttl=0.5)
            told = Told(election, client._engine.runtime.clock)  # type: ignore[arg-type]
            reached = asyncio.Event()

            async def hang(_: AsyncLeadership) -> None:
                reached.set()
                await asyncio.Event().wait()

            if how == "campaign":
                election.on_elected(hang)
            work = election._candidate.campaign(None, None, None) if how == "campaign" else election.run(hang)
            while not reached.is_set():
                work.send(None)
                await asyncio.sleep(0)
            work.close()
            assert election.leading is None
            await _until(lambda: _ended(client, told))
            told.check()

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.native_threads
def test_a_forked_child_neither_leads_nor_is_told(tmp_path: Any) -> None:
    """F14, P7: it may stand for election itself; the parent goes on leading."""
    with locksmith.connect(f"sqlite:///{tmp_path / 'locks.db'}") as client:
        election = client.election("e")
        told: list[str] = []
        election.on_lost(lambda: told.append("lost"))
        lease = election.campaign(value="parent")
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            said = []
            for speak in (lease.resign, election.resign, lambda: lease.proclaim("child"), lease.check):
                try:
                    said.append(repr(speak()))
                except Exception as error:
                    said.append(type(error).__name__)
            leader = election.leader()
            said += [str(election.leading), str(told), str(leader and leader.value)]
            os.write(writer, " ".join(said).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            assert pipe.read() == "InheritedLease " * 4 + "None [] parent"
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lease.held
        assert lease.resign() is True
        assert told == ["lost"]
