"""Cases about ends: every removal grants, expiry is neither early nor late, lock_delay keeps a name closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from locksmith.store import Claim, Gone, Grant, Guarantee, Held, Lost, Store, Ticket, Waiting
from locksmith.testing.contract.base import EARLY, Cases, case
from locksmith.testing.contract.faces import Face


class RemovalCases(Cases):
    """Rule 5: whatever touches a name first expires what is due, then grants from the head of the line."""

    async def _hands_over(self, face: Face, remove: Callable[[Store, Grant], Awaitable[object]]) -> None:
        store, other = self.store(face), self.store(face)
        held = await self.granted(store, self.claim())
        ticket = await self.queued(other, self.claim())
        await remove(store, held)
        found = await store.inspect("n")  # before the waiter's own beat, which would grant as well
        assert [view.owner for view in found.holders] == [ticket.claim.owner]
        grant = await self.handed(face, other, ticket)
        assert isinstance(await self.word(store, held), Lost)
        assert isinstance(await self.word(other, grant), Held)

    @case(needs=Guarantee.FIFO)
    async def test_a_release_grants(self, face: Face) -> None:
        """Rule 5, and section 8: the release itself hands over."""
        await self._hands_over(face, lambda store, held: store.release(held))

    @case(needs=Guarantee.FIFO)
    async def test_an_abandon_grants(self, face: Face) -> None:
        """Rule 5."""
        await self._hands_over(face, lambda store, held: store.abandon(held.claim, tombstone=True))

    @case(needs=Guarantee.FIFO)
    async def test_an_evict_grants(self, face: Face) -> None:
        """Rule 5, complaint 30."""
        await self._hands_over(face, lambda store, held: store.evict("n", held.token))

    @case(needs=Guarantee.FIFO)
    async def test_the_end_of_a_waiter_grants_to_those_it_blocked(self, face: Face) -> None:
        """Rule 5: permits were free all the time, only the head of the line wanted too many of them."""
        store = self.store(face)
        await self.granted(store, self.claim(permits=2, limit=3))
        big = await self.queued(store, self.claim(permits=3, limit=3))
        small = await self.queued(store, self.claim(permits=1, limit=3))
        await store.abandon(big.claim, tombstone=True)
        await self.handed(face, store, small)

    @case(needs=Guarantee.FIFO)
    async def test_the_silence_of_a_waiter_grants_to_those_it_blocked(self, face: Face) -> None:
        """Rule 5 with expiry of a waiter instead of its word."""
        store = self.store(face)
        await self.granted(store, self.claim(permits=2, limit=3))
        await self.queued(store, self.silent(permits=3, limit=3))
        small = await self.queued(store, self.claim(permits=1, limit=3))
        await self.handed(face, store, small, self.short + self.late(face, self.short) + self.margin)

    async def _expires_into(
        self, face: Face, touch: Callable[[Store, Ticket, Ticket, Claim], Awaitable[object]]
    ) -> None:
        """The holder expires; what somebody else does to the name then grants to the head of the line."""
        store, other = self.store(face), self.store(face)
        # Its connections are made before the short ttl begins: on a busy machine that alone takes as long.
        await self.granted(other, self.claim(name="before"))
        await self.queued(other, self.claim(name="before"))
        held = await self.granted(store, self.claim(ttl=self.short))
        head, second = await self.queued(other, self.claim()), await self.queued(other, self.claim())
        await self.outlive(face, held)
        await touch(store, head, second, self.claim())
        holders = [view.owner for view in (await store.inspect("n")).holders]
        assert holders == [head.claim.owner]
        await self.handed(face, other, head)
        assert isinstance(await self.word(other, second), Waiting)

    @case(needs=Guarantee.FIFO)
    async def test_a_refused_try_grants_what_is_due(self, face: Face) -> None:
        """Rule 5: acquire expires the dead holder, and the name goes to the head of the line, not to the try."""

        async def touch(store: Store, head: Ticket, second: Ticket, claim: Claim) -> None:
            assert await store.acquire(claim, queue=False) is None

        await self._expires_into(face, touch)

    @case(needs=Guarantee.FIFO)
    async def test_a_newcomer_grants_what_is_due(self, face: Face) -> None:
        """Rule 5: the one who joins the line finds the holder dead; the head of the line gets the name."""

        async def touch(store: Store, head: Ticket, second: Ticket, claim: Claim) -> None:
            assert isinstance(await store.acquire(claim, queue=True), Ticket)

        await self._expires_into(face, touch)

    @case(needs=Guarantee.FIFO)
    async def test_the_beat_of_any_waiter_grants_what_is_due(self, face: Face) -> None:
        """Rule 5: the second in line asks, the first one gets it."""

        async def touch(store: Store, head: Ticket, second: Ticket, claim: Claim) -> None:
            assert isinstance(await self.word(store, second), Waiting)

        await self._expires_into(face, touch)

    @case(needs=Guarantee.FIFO)
    async def test_the_beat_of_the_dead_holder_grants_what_is_due(self, face: Face) -> None:
        """Rule 5 and P7: it wakes up, asks, is told that it lost, and by that very beat the next one gets the name."""
        store = self.store(face)
        held = await self.granted(store, self.claim(ttl=self.short))
        ticket = await self.queued(store, self.claim())
        await self.outlive(face, held)
        assert isinstance(await self.word(store, held), Lost)
        assert [view.owner for view in (await store.inspect("n")).holders] == [ticket.claim.owner]
        await self.handed(face, store, ticket)

    # Expiry.

    @case()
    async def test_a_beat_never_revives_what_expired(self, face: Face) -> None:
        """P7: also where nobody has taken the name meanwhile."""
        store = self.store(face)
        grant = await self.granted(store, self.claim(ttl=self.short))
        await self.outlive(face, grant)
        for _ in range(2):
            assert isinstance(await self.word(store, grant), Lost)
        assert not (await store.inspect("n")).holders
        assert await store.release(grant) is False

    @case()
    async def test_an_acquire_never_revives_what_expired(self, face: Face) -> None:
        """P2, P7: a late retry of the same owner is a new grant, with a new token (the old ones may be fenced off)."""
        store = self.store(face)
        claim = self.claim(ttl=self.short)
        old = await self.granted(store, claim)
        await self.outlive(face, old)
        new = await self.granted(store, claim)
        assert new.token > old.token
        assert isinstance(await self.word(store, old), Lost)
        assert isinstance(await self.word(store, new), Held)

    @case(needs=Guarantee.EXACT_TTL)
    async def test_a_silent_holder_expires_on_time(self, face: Face) -> None:
        """P8: not before its ttl, counted from the request; and soon after, counted from the reply."""
        store = self.store(face)
        clock = store.runtime.clock
        grant = await self.granted(store, self.claim(ttl=self.short))
        replied = clock.now()
        asked = clock.now()
        while await store.acquire(self.claim(), queue=False) is None:
            assert clock.now() < replied + self.short + self.margin
            await face.sleep(0.005)
            asked = clock.now()
        got = clock.now()
        assert got >= grant.since + self.short * (1 - EARLY), f"{grant.since + self.short - asked:.4f} s early"

    @case()
    async def test_a_crashed_holder_frees_the_name_at_last(self, face: Face) -> None:
        """P8, for stores whose ttl is only a lower bound: within twice the ttl."""
        store = self.store(face)
        grant = await self.granted(store, self.claim(ttl=self.short))

        async def free() -> bool:
            return await store.acquire(self.claim(), queue=False) is not None

        await face.eventually(free, within=2 * grant.ttl + self.margin, what="the name is free")

    @case(needs=Guarantee.FIFO)
    async def test_the_head_of_the_line_knows_when_to_ask(self, face: Face) -> None:
        """Section 8: expiry is found by the head's own beat, sent when the holder's time is up.

        Sessions are ended by the server alone, which then tells the head.
        """
        store = self.store(face)
        await (self._is_told_of_the_end if store.by_session else self._asks_at_the_end)(face, store)

    async def _asks_at_the_end(self, face: Face, store: Store) -> None:
        held = await self.granted(store, self.claim(ttl=30.0))
        head = await self.queued(store, self.claim())
        behind = await self.queued(store, self.claim())
        for ticket in (head, behind):
            assert ticket.head_expires_in is None or 25.0 < ticket.head_expires_in <= held.ttl + 0.5
        word = await self.word(store, head)
        assert isinstance(word, Waiting)
        assert word.head_expires_in is not None
        assert 25.0 < word.head_expires_in <= held.ttl + 0.5
        # Only the head need ask: a herd that asks at every expiry would be a request per waiter.
        assert isinstance(word := await self.word(store, behind), Waiting)
        assert word.head_expires_in is None

    async def _is_told_of_the_end(self, face: Face, store: Store) -> None:
        dead = await self.granted(store, self.silent())
        head, behind = await self.queued(store, self.claim()), await self.queued(store, self.claim())
        assert head.head_expires_in is behind.head_expires_in is None
        until = store.runtime.clock.now() + dead.ttl + self.late(face, dead.ttl) + self.margin
        while head.inbox.peek() is None:
            assert store.runtime.clock.now() < until, "nobody told the head of the line"
            await store.wait(head, self.margin)
        assert isinstance(head.inbox.peek(), Grant)
        assert behind.inbox.peek() is None

    # lock_delay.

    @case(needs=Guarantee.LOCK_DELAY)
    async def test_a_lost_name_stays_closed_for_lock_delay(self, face: Face) -> None:
        """Chubby's lock-delay: requests of the lost holder may still be under way."""
        store = self.store(face)
        grant = await self.granted(store, self.claim(ttl=self.short, lock_delay=60.0))
        await self.outlive(face, grant)
        assert await store.acquire(self.claim(), queue=False) is None
        ticket = await self.queued(store, self.claim())
        assert isinstance(await self.word(store, ticket), Waiting)
        found = await store.inspect("n")
        assert not found.holders
        assert 50.0 < found.closed_for <= 60.0

    @case(needs=Guarantee.LOCK_DELAY)
    async def test_lock_delay_ends(self, face: Face) -> None:
        """The line moves on after the delay, and not before."""
        store = self.store(face)
        grant = await self.granted(store, self.claim(ttl=self.short, lock_delay=self.short))
        ticket = await self.queued(store, self.claim())
        await self.handed(face, store, ticket, 2 * self.short + self.margin)
        assert store.runtime.clock.now() - grant.since >= 2 * self.short * (1 - EARLY) - 0.01

    @case(needs=Guarantee.LOCK_DELAY)
    async def test_a_clean_release_closes_nothing(self, face: Face) -> None:
        """lock_delay is for losses; abandoning is no loss either."""
        store = self.store(face)
        assert await store.release(await self.granted(store, self.claim(lock_delay=60.0)))
        grant = await self.granted(store, self.claim(lock_delay=60.0))
        await store.abandon(grant.claim, tombstone=True)
        await self.granted(store, self.claim())
        assert (await store.inspect("n")).closed_for == 0

    @case(needs=Guarantee.LOCK_DELAY)
    async def test_an_eviction_is_a_loss(self, face: Face) -> None:
        """Evicting is as if the ttl had ended: the evicted one may be at work still."""
        store = self.store(face)
        grant = await self.granted(store, self.claim(lock_delay=60.0))
        assert await store.evict("n", grant.token)
        assert await store.acquire(self.claim(), queue=False) is None
        assert (await store.inspect("n")).closed_for > 50

    @case(needs=Guarantee.LOCK_DELAY)
    async def test_an_unconfirmed_grant_that_ended_is_told_gone(self, face: Face) -> None:
        """A hand-over that nobody took up ends like a holder; its ticket learns it."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        ticket = await self.queued(store, self.claim(waiter_ttl=self.short))
        assert await store.release(held)
        await face.sleep(self.short * 1.1 + 0.05)
        assert isinstance(await self.word(store, ticket), Gone)
