"""Cases about leases, through a client: what users of the two faces see."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from locksmith import events
from locksmith.errors import AcquireTimeout, ClientClosed, LeaseLost
from locksmith.store import Guarantee
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face


class LeaseCases(Cases):
    """Acquire, hold, lose, give back, close."""

    @case()
    async def test_acquire_hold_release(self, face: Face) -> None:
        """The README's first lines."""
        client = self.connect(face, ttl=20.0)
        lock = client.lock("reports:daily")
        lease = await lock.acquire(wait=5)
        assert (lease.name, lease.held, lease.permits) == ("reports:daily", True, 1)
        assert lease.ttl >= 20.0
        assert 15.0 < lease.remaining() <= lease.ttl
        lease.check()
        assert lease.lost.is_set() is False
        assert await lock.try_acquire() is None
        assert await lease.release() is True
        assert await lease.release() is False
        assert (lease.held, lease.remaining(), lease.lost.is_set()) == (False, 0.0, False)
        with pytest.raises(LeaseLost):
            lease.check()
        await self.nothing_left(face, "reports:daily")

    @case(needs=Guarantee.FENCED)
    async def test_two_acquisitions_are_two_leases(self, face: Face) -> None:
        """P5, smell 1: a lock never carries an acquisition; who shares it gets leases of their own."""
        client = self.connect(face)
        lock = client.lock("n")
        first = await lock.acquire()
        assert await first.release()
        second = await lock.acquire()
        assert second.token > first.token
        assert await first.release() is False
        assert second.held
        assert await client.lock("n").try_acquire() is None
        assert await second.release() is True

    @case()
    async def test_a_with_block_gives_back(self, face: Face) -> None:
        """Also where its body raises, which passes through untouched."""
        client = self.connect(face)
        async with client.lock("n").acquire() as lease:
            assert lease.held
        assert lease.remaining() == 0.0
        with pytest.raises(ZeroDivisionError):
            async with client.lock("n").acquire(wait=0):
                raise ZeroDivisionError
        again = await client.lock("n").acquire(wait=0)
        async with again:
            assert again.held
        await self.nothing_left(face, "n")

    @case()
    async def test_a_lock_without_acquire_is_no_context(self, face: Face) -> None:
        """`with client.lock("x"):` says what to write instead."""
        lock = self.connect(face).lock("n")
        with pytest.raises(TypeError, match=r"acquire\(\)"), getattr(lock, "real", lock):
            raise AssertionError("entered unheld")
        if face.name == "asyncio":
            enter: Any = lock.__aenter__
            with pytest.raises(TypeError, match=r"acquire\(\)"):
                await enter()

    @case()
    async def test_a_lease_lives_as_long_as_it_is_held(self, face: Face) -> None:
        """Complaint 38: keep-alive is the default; the ttl is crash detection and not the length of the job."""
        client, other = self.connect(face), self.connect(face)
        ttl = max(1.5, 3 * self.short)
        lease = await client.lock("n", ttl=ttl).acquire()
        token, until = lease.token, time.monotonic() + 1.7 * ttl
        while time.monotonic() < until:
            await face.sleep(ttl / 20)
            assert lease.held
        assert lease.token == token
        assert await other.lock("n").try_acquire() is None
        assert await lease.release() is True

    @case()
    async def test_an_evicted_holder_learns_it(self, face: Face) -> None:
        """F21, complaints 1, 3 and 29: lost within a renewal; held says no, check and release raise, for good."""
        client = self.connect(face, ttl=3 * self.short)
        lease = await client.lock("n").acquire()
        told: list[Any] = []
        lease.on_lost(lambda: told.append("without"))
        lease.on_lost(told.append)
        assert await client.evict("n", lease.token) is True
        assert await lease.lost.wait(3 * self.short + self.margin) is True
        assert (lease.held, lease.lost.is_set(), lease.remaining()) == (False, True, 0.0)
        await face.eventually(lambda: len(told) == 2, what="both callbacks")
        assert told[0] == "without"
        assert told[1].token == lease.token
        for _ in range(2):
            with pytest.raises(LeaseLost):
                lease.check()
            with pytest.raises(LeaseLost):
                await lease.release()
        late: list[str] = []
        lease.on_lost(lambda: late.append("late"))
        await face.eventually(lambda: late == ["late"], what="a callback that comes late is called at once")
        await face.sleep(self.short)
        assert (len(told), len(late)) == (2, 1)

    @case()
    async def test_leaving_a_block_whose_lease_was_lost_raises(self, face: Face) -> None:
        """P9: unless the body raised already, whose error is the one that counts."""
        client = self.connect(face, ttl=3 * self.short)

        async def work(error: Exception | None) -> None:
            async with client.lock("n").acquire() as lease:
                await client.evict("n", lease.token)
                assert await lease.lost.wait(3 * self.short + self.margin)
                if error is not None:
                    raise error

        with pytest.raises(LeaseLost):
            await work(None)
        with pytest.raises(ZeroDivisionError):
            await work(ZeroDivisionError())
        await self.nothing_left(face, "n")

    @case()
    async def test_a_released_lease_was_not_lost(self, face: Face) -> None:
        """on_lost is never called for what was given back, and who waits for the loss is let go."""
        client = self.connect(face)
        lease = await client.lock("n").acquire()
        told: list[str] = []
        lease.on_lost(lambda: told.append("lost"))
        waiting = face.start(lease.lost.wait(30))
        await face.sleep(0.05)
        assert await lease.release()
        assert await waiting.result(self.margin) is False
        assert await lease.lost.wait(0) is False
        await client.close()
        assert told == []

    @case()
    async def test_releasing_hurts_nobody_after_a_loss(self, face: Face) -> None:
        """P5, nastiest scenario 7: the lost holder's release says so and leaves its successor alone."""
        client, other = self.connect(face), self.connect(face)
        lease = await client.lock("n").acquire()
        assert await other.evict("n", lease.token)
        successor = await other.lock("n").acquire(wait=0)
        with pytest.raises(LeaseLost):
            await lease.release()
        assert await client.lock("n").try_acquire() is None
        assert await successor.release() is True

    @case()
    async def test_max_hold_ends_a_lease_although_it_is_renewed(self, face: Face) -> None:
        """Complaint 28: a stuck holder does not hold for ever."""
        client, other = self.connect(face), self.connect(face)
        lease = await client.lock("n", ttl=30).acquire(max_hold=self.short)
        assert lease.remaining() <= self.short
        assert await lease.lost.wait(self.short + self.margin) is True
        assert not lease.held
        with pytest.raises(LeaseLost):
            await lease.release()
        async with other.lock("n").acquire(wait=self.margin):
            pass

    @case(needs=Guarantee.LOCK_DELAY)
    async def test_lock_delay_through_a_client(self, face: Face) -> None:
        """A name stays closed after a loss, not after a release."""
        client = self.connect(face)
        lock = client.lock("n", lock_delay=60.0)
        async with lock.acquire(wait=0):
            pass
        lease = await lock.acquire(wait=0)
        assert await client.evict("n", lease.token)
        assert await client.lock("n").try_acquire() is None
        assert (await client.inspect("n")).closed_for > 50
        with pytest.raises(LeaseLost):
            await lease.release()

    @case()
    async def test_a_note_and_the_process_are_shown(self, face: Face) -> None:
        """Complaint 31: `show NAME` has host, pid and note."""
        client = self.connect(face)
        async with client.lock("n").acquire(note='é "quoted" {note}') as lease:
            view = (await client.inspect("n")).holders[0]
            assert view.token == lease.token
            info = json.loads(view.info)
            assert info["note"] == 'é "quoted" {note}'
            assert {"host", "pid"} <= set(info)
            assert [name async for name in client.names()] == ["n"]
            assert [name async for name in client.names("other")] == []

    @case(needs=Guarantee.FIFO)
    async def test_events_tell_the_story(self, face: Face) -> None:
        """Hooks get one frozen record for each thing that happens."""
        seen: list[events.Event] = []
        client = self.connect(face, hooks=[seen.append])
        async with client.lock("n").acquire():
            with pytest.raises(AcquireTimeout):
                await client.lock("n").acquire(wait=0.05)
        assert [type(event) for event in seen] == [
            events.Acquired,
            events.Queued,
            events.GaveUp,
            events.Released,
        ]

    # Closing.

    @case()
    async def test_closing_gives_back_what_is_held(self, face: Face) -> None:
        """And is idempotent; what comes after it is refused."""
        client, other = self.connect(face), self.connect(face)
        lease = await client.lock("a").acquire()
        lock = client.lock("b")
        await client.close()
        await client.close()
        assert not lease.held
        for name in ("a", "b"):
            async with other.lock(name).acquire(wait=0):
                pass
        for refused in (lock.acquire(wait=0), lock.try_acquire(), client.lock("c").acquire()):
            with pytest.raises(ClientClosed):
                await refused

    @case()
    async def test_one_clients_end_is_not_anothers(self, face: Face) -> None:
        """Clients of one store share nothing that closing takes away."""
        client, other = self.connect(face, ttl=3 * self.short), self.connect(face)
        lease = await client.lock("n").acquire()
        async with other.lock("m").acquire():
            pass
        await other.close()
        await face.sleep(3 * self.short)
        assert lease.held
        assert await lease.release() is True
