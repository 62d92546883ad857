"""What stands on leases is counted as leases: elections, run_once, and the supervisor's campaigns."""

from __future__ import annotations

import asyncio
import uuid
from queue import SimpleQueue

import pytest
from metricsbench import Bench

import locksmith
from locksmith import SKIPPED, aio, events, run_once
from locksmith.supervise.campaign import Campaign, Elected, Taken
from locksmith.testing.contract.faces import Face


@pytest.fixture
def url() -> str:
    return f"memory://recipes-{uuid.uuid4().hex}"


def kinds(seen: list[events.Event]) -> list[str]:
    return [type(event).__name__ for event in seen]


def test_a_term_of_an_election_is_a_lease(face: Face) -> None:
    async def case() -> None:
        bench = Bench(face).listen()
        election = bench.client.election("e")
        lease = await election.campaign()
        await bench.advance(3.0)
        await election.resign()
        assert bench.kinds() == ["Acquired", "Released"]
        assert {event.name for event in bench.seen} == {"e"}
        released = bench.seen[-1]
        assert isinstance(released, events.Released)
        assert (released.token, released.held) == (lease.token, 3.0)

        await election.campaign()
        bench.break_("beat")
        await bench.advance(40.0)
        assert bench.kinds()[-1] == "Lost"

    face.run(case())


def test_run_once_is_counted_like_a_lock(url: str) -> None:
    seen: list[events.Event] = []
    with locksmith.connect(url, hooks=[seen.append]) as client, locksmith.connect(url) as other:

        @run_once(client=client, key="job", on_conflict="skip")
        def job() -> str:
            return "done"

        assert job() == "done"
        assert kinds(seen) == ["Acquired", "Released"]
        with other.lock("job").acquire():
            assert job() is SKIPPED
        assert kinds(seen) == ["Acquired", "Released", "GaveUp"]
        assert {event.name for event in seen} == {"job"}


def test_run_once_that_keeps_its_name_for_a_while_has_released_it(url: str) -> None:
    seen: list[events.Event] = []
    with locksmith.connect(url, hooks=[seen.append]) as client:

        @run_once(client=client, key="job", at_least=60)
        def job() -> str:
            return "done"

        assert job() == "done"
        assert kinds(seen) == ["Acquired", "Released"]


@pytest.mark.native_threads
def test_run_once_of_a_coroutine(url: str) -> None:
    async def main() -> None:
        seen: list[events.Event] = []
        async with aio.connect(url, hooks=[seen.append]) as client:

            @run_once(client=client, key="job")
            async def job() -> str:
                return "done"

            assert await job() == "done"
            assert kinds(seen) == ["Acquired", "Released"]

    asyncio.run(main())


@pytest.mark.native_threads
def test_a_coroutine_that_is_thrown_away_gives_back(url: str) -> None:
    """Its keeper does, and what was counted up is counted down."""

    async def main() -> None:
        seen: list[events.Event] = []
        async with aio.connect(url, hooks=[seen.append]) as client:

            @run_once(client=client, key="job")
            async def job() -> None:
                await asyncio.sleep(60)

            work = job().__await__()
            while not seen:
                next(work)
            work.close()
            assert kinds(seen) == ["Acquired", "Released"]

    asyncio.run(main())


def test_a_supervisors_campaign_is_counted(url: str) -> None:
    seen: list[events.Event] = []
    words: SimpleQueue[object] = SimpleQueue()

    def campaign(once: bool) -> Campaign:
        made = Campaign(lambda: locksmith.connect(url, hooks=[seen.append]), "beat", 30, once=once, tell=words.put)
        made.start()
        return made

    first = campaign(once=False)
    assert isinstance(words.get(timeout=20), Elected)
    second = campaign(once=True)
    assert isinstance(words.get(timeout=20), Taken)
    second.close(lambda lease: None)
    first.close(lambda lease: None)
    assert kinds(seen) == ["Acquired", "GaveUp", "Released"]
    assert {event.name for event in seen} == {"beat"}
