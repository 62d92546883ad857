"""Cases about what stands on leases and cells: elections, and cells as users have them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from locksmith.errors import AcquireTimeout, CellConflict, CellTooLarge, ConfigurationError, InvalidName, LeaseLost
from locksmith.recipes import places
from locksmith.recipes.election import NEEDS
from locksmith.recipes.term import Announcement
from locksmith.store import ABSENT, MAX_CELL_BYTES, Guarantee
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face, Job

CELLS = Guarantee.CELLS


async def states(changes: Any, count: int) -> list[Any]:
    """What an observer sees, so many times."""
    return [await changes.__anext__() for _ in range(count)]


class ElectionCases(Cases):
    """One leads, everybody sees who, and whoever leads no more has been told before another one leads."""

    @case(needs=NEEDS)
    async def test_one_leads_and_everybody_sees_who(self, face: Face) -> None:
        """P10: a term is the fencing token of a lease, and what is announced belongs to it alone."""
        here, there = (self.connect(face).election("e") for _ in range(2))
        assert await there.leader() is None
        lease = await here.campaign(wait=0, value={"port": 80}, note="first")
        leader = await there.leader()
        assert leader is not None
        assert (leader.name, leader.term, leader.value) == ("e", lease.token, {"port": 80})
        assert (leader.pid, leader.note) == (os.getpid(), "first")
        assert 0 <= leader.since < 30
        with pytest.raises(AcquireTimeout):
            await there.campaign(wait=0)
        assert (there.leading, here.leading is not None) == (None, True)
        await here.proclaim({"port": 81})
        leader = await there.leader()
        assert leader is not None
        assert leader.value == {"port": 81}
        assert await here.resign() is True
        assert await here.resign() is False
        assert (await here.leader(), here.leading) == (None, None)
        second = await there.campaign(wait=self.margin)
        leader = await here.leader()
        assert leader is not None
        assert (leader.term, leader.value) == (second.token, None)
        assert second.token > lease.token
        assert await second.release() is True
        await self.nothing_left(face, "e")

    @case(needs=NEEDS)
    async def test_nobody_leads_before_on_lost_has_returned(self, face: Face) -> None:
        """P10: whoever resigns has been told, and has stopped, when the next one is elected."""
        here, there = (self.connect(face).election("e") for _ in range(2))
        seen: list[str] = []

        async def stop_working() -> None:
            seen.append("stopping")
            await face.sleep(0.1)
            seen.append("stopped")

        here.on_elected(lambda: seen.append("elected"))
        here.on_lost(stop_working)
        there.on_elected(lambda: seen.append("next"))
        there.on_lost(lambda: seen.append("over"))
        lease = await here.campaign(wait=0)
        successor: Job[Any] = face.start(self._campaign(there))
        await self.in_line(face, self.connect(face), name="e")
        assert await lease.release() is True
        assert await (await successor.result()).resign() is True
        assert seen == ["elected", "stopping", "stopped", "next", "over"]

    async def _campaign(self, election: Any) -> Any:
        return await election.campaign(wait=60)

    @case(needs=NEEDS)
    async def test_a_leader_that_lost_is_told_once_and_can_say_nothing_more(self, face: Face) -> None:
        """P7, P10: the store itself refuses what a former leader announces; nobody sees it as the next one's."""
        client, there = self.connect(face), self.connect(face).election("e")
        here = client.election("e", ttl=3 * self.short)
        told: list[str] = []
        here.on_lost(lambda: told.append("lost"))
        lease = await here.campaign(wait=0, value="old")
        assert await client.evict("e", lease.token) is True
        with pytest.raises(LeaseLost):
            await lease.proclaim("late")  # the store says so, or the lease itself where a beat was faster
        successor = await there.campaign(wait=self.margin)
        leader = await there.leader()
        assert leader is not None
        assert (leader.term, leader.value) == (successor.token, None)
        await face.eventually(lambda: told, what="on_lost was called")
        with pytest.raises(LeaseLost):
            await here.resign()
        assert here.leading is None
        assert await successor.resign() is True
        await client.close()
        assert told == ["lost"]

    @case(needs=NEEDS)
    async def test_a_silent_leader_is_seen_to_be_gone(self, face: Face) -> None:
        """P8: nobody writes when a leader dies, but whoever observes sees it when its ttl has passed."""
        store, client = self.store(face), self.connect(face)
        grant = await self.granted(store, self.silent(name="e"))
        assert await client.election("e").leader() is None  # it has not announced itself yet
        await store.put(places.of_election("e"), Announcement("dying").of(grant.token), guard=grant)
        first, second = await states(client.election("e").observe(), 2)
        assert first is not None
        assert (first.term, first.value) == (grant.token, "dying")
        assert second is None
        assert await client.election("e").leader() is None

    @case(needs=NEEDS)
    async def test_changes_can_be_observed(self, face: Face) -> None:
        """Who leads and what they announce, in their order; the last state where several came at once."""
        here, there = (self.connect(face).election("e") for _ in range(2))
        watch: Any = there.observe()
        assert await states(watch, 1) == [None]
        lease = await here.campaign(value=1)
        assert [(leader.term, leader.value) for leader in await states(watch, 1)] == [(lease.token, 1)]
        await here.proclaim(2)
        assert [(leader.term, leader.value) for leader in await states(watch, 1)] == [(lease.token, 2)]
        observing: Job[Any] = face.start(states(watch, 1))
        assert await here.resign() is True
        assert await observing.result() == [None]
        quiet: Any = there.observe(wait=0.05)
        assert [state async for state in quiet] == [None]

    @case(needs=NEEDS)
    async def test_leading_goes_on_after_a_loss(self, face: Face) -> None:
        """`run` stands for election again until what it runs returns while it leads."""
        client = self.connect(face)
        election = client.election("e", ttl=3 * self.short)
        terms: list[int] = []

        async def lead(lease: Any) -> str:
            terms.append(lease.token)
            if len(terms) == 1:
                assert await client.evict("e", lease.token) is True
                await lease.lost.wait(20)
                await face.sleep(0)  # in asyncio this is where the cancellation comes in
                lease.check()
            return "led"

        assert await election.run(lead) == "led"
        assert len(terms) == 2
        assert terms[0] < terms[1]
        await self.nothing_left(face, "e")


class CellRecipeCases(Cases):
    """JSON or bytes, compare-and-set, updates that lose nothing, and refusals before anything is sent."""

    @case(needs=CELLS)
    async def test_a_cell_keeps_what_json_can_express(self, face: Face) -> None:
        """And gives back exactly that, with its version; None is a value, absence is not."""
        cell, other = (self.connect(face).cell("config") for _ in range(2))
        assert await cell.get() is None
        versions = []
        values: tuple[Any, ...] = (None, True, 0, -1.5, "", "é🔒\x00", [], {"a": [1, {"b": None}]}, 2**70)
        for value in values:
            versions.append(await cell.put(value))
            found = await other.get()
            assert found is not None
            assert (found.value, found.version) == (value, versions[-1])
            assert type(found.value) is type(value)
        assert versions == sorted(set(versions))
        assert (await other.delete(), await cell.delete(), await cell.get()) == (True, False, None)

    @case(needs=CELLS)
    async def test_a_raw_cell_keeps_bytes(self, face: Face) -> None:
        """All 256 of them."""
        client = self.connect(face)
        cell = client.cell("blob", raw=True)
        await cell.put(bytes(range(256)))
        found = await cell.get()
        assert found is not None
        assert found.value == bytes(range(256))
        with pytest.raises(ConfigurationError):
            await client.cell("blob").get()
        with pytest.raises(ConfigurationError):
            await cell.put("text")  # type: ignore[arg-type]

    @case(needs=CELLS)
    async def test_what_cannot_be_kept_is_refused_before_it_is_sent(self, face: Face) -> None:
        """Whatever JSON cannot express or would change, and whatever is too large."""
        cell = self.connect(face).cell("config")
        was = await cell.put("kept")
        ring: list[Any] = []
        ring.append(ring)
        for bad in (object(), b"bytes", {1: 2}, {"a": {1}}, float("nan"), [float("inf")], ring):
            with pytest.raises(ConfigurationError):
                await cell.put(bad)
        with pytest.raises(CellTooLarge):
            await cell.put("x" * (MAX_CELL_BYTES - 1))  # two quotes more
        for bad_version in (0, -1, True, None, "1"):
            with pytest.raises(ConfigurationError):
                await cell.put(1, expect=bad_version)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            await cell.put(1, ttl=0)
        with pytest.raises(InvalidName):
            self.connect(face).cell("")
        found = await cell.get()
        assert found is not None
        assert (found.value, found.version) == ("kept", was)

    @case(needs=CELLS)
    async def test_a_write_may_expect_a_version_or_a_lease(self, face: Face) -> None:
        """Compare and set; and P2: a write under a lease that has ended is refused, by the lease and by the store."""
        client = self.connect(face)
        cell = client.cell("config")
        first = await cell.put(1, expect=ABSENT)
        second = await cell.put(2, expect=first)
        for stale in (first, ABSENT):
            with pytest.raises(CellConflict) as conflict:
                await cell.put(3, expect=stale)
            assert conflict.value.found == second
        lease: Any = await client.lock("n").acquire()
        assert await cell.put(3, guard=lease) > second
        assert await client.evict("n", lease.token) is True
        with pytest.raises(LeaseLost):
            await cell.put(4, guard=lease)
        with pytest.raises(LeaseLost):
            await cell.delete(guard=lease)
        found = await cell.get()
        assert found is not None
        assert found.value == 3

    @case(needs=CELLS)
    async def test_updates_lose_nothing(self, face: Face) -> None:
        """Several at once add to one number, each addition is there at the end."""
        cells = [self.connect(face).cell("counter") for _ in range(3)]

        async def add(cell: Any) -> None:
            for _ in range(5):
                await cell.update(lambda number: number + 1, default=0, tries=1000)

        for job in [face.start(add(cell)) for cell in cells]:
            await job.result(60)
        found = await cells[0].get()
        assert found is not None
        assert found.value == 15

    @case(needs=CELLS)
    async def test_changes_of_a_cell_can_be_watched(self, face: Face) -> None:
        """What is, and then what it becomes; None where it was deleted or its ttl has ended."""
        client = self.connect(face)
        watch: Any = client.cell("config").watch()
        cell = self.connect(face).cell("config")
        assert await states(watch, 1) == [None]
        version = await cell.put("a")
        assert [(found.value, found.version) for found in await states(watch, 1)] == [("a", version)]
        watching: Job[Any] = face.start(states(watch, 2))
        ttl = max(self.short, 2.0)  # whoever looks only when that has ended has not seen it, and waits for ever
        await cell.put("b", ttl=ttl)
        became, gone = await watching.result(ttl + self.late(face, ttl) + 20)
        assert (became.value, gone) == ("b", None)
        quiet: Any = client.cell("config").watch(wait=0.05)
        assert [found async for found in quiet] == [None]
