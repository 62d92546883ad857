"""Cases about waiting, through a client: patience, turns, permits, and what is left when nobody waits any more."""

from __future__ import annotations

import time
from typing import Any

import pytest

from locksmith.errors import AcquireTimeout, ClientClosed, SelfDeadlock, SettingsConflict
from locksmith.store import Guarantee
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face


class WaitCases(Cases):
    """Stand in line, get the turn, give up."""

    @case()
    async def test_a_wait_of_zero_is_one_try(self, face: Face) -> None:
        """P9: it raises; nothing is held and nobody stays in line."""
        mine, theirs = self.connect(face), self.connect(face)
        lease = await theirs.lock("n").acquire()
        began = time.monotonic()
        with pytest.raises(AcquireTimeout) as timeout:
            await mine.lock("n").acquire(wait=0)
        assert isinstance(timeout.value, TimeoutError)
        assert time.monotonic() - began < self.margin
        found = await mine.inspect("n")
        assert (len(found.holders), len(found.waiters)) == (1, 0)
        assert await lease.release()

    @case(needs=Guarantee.FIFO)
    async def test_a_wait_ends_in_time_and_leaves_nothing(self, face: Face) -> None:
        """P6: after the timeout nobody is in line, and the name does not come to somebody who left."""
        mine, theirs = self.connect(face), self.connect(face)
        lease = await theirs.lock("n").acquire()
        began = time.monotonic()
        with pytest.raises(AcquireTimeout):
            await mine.lock("n").acquire(wait=self.short)
        assert self.short * 0.95 <= time.monotonic() - began < self.short + self.margin
        assert not (await mine.inspect("n")).waiters
        assert await lease.release()
        async with theirs.lock("n").acquire(wait=0):
            pass

    @case(needs=Guarantee.FIFO)
    async def test_a_waiter_gets_the_name_when_it_is_given_back(self, face: Face) -> None:
        """P8 for the living: at once, not at some next poll."""
        mine, theirs = self.connect(face), self.connect(face)
        lease = await theirs.lock("n").acquire()
        waiting = face.start(self._acquire(mine, "n"))
        await self.in_line(face, mine, name="n")
        assert not waiting.done()
        assert await lease.release()
        got = await waiting.result(self.margin)
        assert got.held
        assert got.token > lease.token
        assert await got.release() is True

    @case(needs=Guarantee.FIFO)
    async def test_waiters_of_one_client_and_of_several_come_in_order(self, face: Face) -> None:
        """FIFO over threads or tasks of one client and over clients."""
        clients = [self.connect(face) for _ in range(2)]
        order: list[int] = []

        async def work(number: int) -> None:
            async with clients[number % 2].lock("n").acquire(wait=30):
                order.append(number)

        lease = await clients[0].lock("n").acquire()
        jobs = []
        for number in range(6):
            jobs.append(face.start(work(number)))
            await self.in_line(face, clients[0], number + 1, "n")
        assert await lease.release()
        for job in jobs:
            await job.result()
        assert order == list(range(6))
        await self.nothing_left(face, "n")

    @case(needs=Guarantee.FIFO)
    async def test_the_end_of_a_dead_holder_is_noticed(self, face: Face) -> None:
        """P8: the head of the line has the name about when the silent holder's ttl ends, not a poll later."""
        store, client = self.store(face), self.connect(face)
        dead = await self.granted(store, self.claim(ttl=2 * self.short))
        lease = await client.lock("n").acquire(wait=20)
        waited = store.runtime.clock.now() - dead.since
        assert 2 * self.short * 0.98 <= waited < dead.ttl + self.late(face, dead.ttl) + self.margin / 2
        assert lease.token > dead.token
        assert await lease.release()

    @case(needs=Guarantee.FIFO)
    async def test_waiting_for_oneself_without_bound_is_refused(self, face: Face) -> None:
        """SelfDeadlock: not re-entrant; with a bound, or from elsewhere, it is an ordinary wait."""
        client = self.connect(face)
        lease = await client.lock("n").acquire()
        with pytest.raises(SelfDeadlock):
            await client.lock("n").acquire()
        with pytest.raises(AcquireTimeout):
            await client.lock("n").acquire(wait=0.05)
        assert not (await client.inspect("n")).waiters
        elsewhere = face.start(self._acquire(client, "n", None))
        await self.in_line(face, client, name="n")
        assert await lease.release()
        assert await (await elsewhere.result()).release()

    @case(needs=Guarantee.FIFO)
    async def test_a_semaphore_counts(self, face: Face) -> None:
        """Permits are n of N at once, several by one acquisition, another limit is a conflict."""
        client = self.connect(face)
        gpu = client.semaphore("gpu", limit=3)
        two = await gpu.acquire(permits=2)
        one = await gpu.acquire(wait=0)
        assert (two.permits, one.permits) == (2, 1)
        assert await gpu.try_acquire() is None
        with pytest.raises(SettingsConflict):
            await client.semaphore("gpu", limit=4).acquire(wait=0)
        with pytest.raises(SettingsConflict):
            await client.lock("gpu").acquire()
        assert await one.release()
        waiting = face.start(self._acquire(client, "gpu", 20, limit=3, permits=3))
        await self.in_line(face, client, name="gpu")
        assert await gpu.try_acquire() is None  # one is free, but somebody waits for three
        assert await two.release()
        assert await (await waiting.result()).release()
        async with client.semaphore("gpu", limit=4).acquire(wait=0):
            pass

    @case(needs=Guarantee.FIFO)
    async def test_readers_and_writers(self, face: Face) -> None:
        """Many readers or one writer; a waiting writer is not starved by readers that come after it."""
        client = self.connect(face)
        catalog = client.rwlock("catalog")
        readers = [await catalog.read().acquire(wait=0) for _ in range(2)]
        assert await catalog.write().try_acquire() is None
        writing = face.start(self._write(client))
        await self.in_line(face, client, name="catalog")
        assert await catalog.read().try_acquire() is None
        for reader in readers:
            assert await reader.release()
        writer = await writing.result()
        assert await catalog.read().try_acquire() is None
        assert await writer.release()
        async with catalog.read().acquire(wait=0):
            pass

    async def _write(self, client: Any) -> Any:
        return await client.rwlock("catalog").write().acquire(wait=20)

    @case(needs=Guarantee.FIFO)
    async def test_closing_lets_waiters_go(self, face: Face) -> None:
        """Who waits is told that the client was closed; nothing stays in line."""
        client, other = self.connect(face), self.connect(face)
        lease = await other.lock("n").acquire()
        jobs = [face.start(self._acquire(client, "n", wait)) for wait in (None, 30)]
        await self.in_line(face, other, 2, "n")
        await client.close()
        for job in jobs:
            with pytest.raises(ClientClosed):
                await job.result(self.margin)
        assert not (await other.inspect("n")).waiters
        assert await lease.release()
        await self.nothing_left(face, "n")

    async def _acquire(self, client: Any, name: str, wait: float | None = 20, limit: int = 1, permits: int = 1) -> Any:
        lock = client.lock(name) if limit == 1 else client.semaphore(name, limit=limit)
        return await lock.acquire(wait=wait, permits=permits)
