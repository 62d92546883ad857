"""Cases about the line: who is next, how it is told, and what becomes of those who fall silent."""

from __future__ import annotations

import pytest

from locksmith.errors import SettingsConflict
from locksmith.store import Gone, Grant, Guarantee, Held, Lost, Unknown, Waiting
from locksmith.testing.contract.base import EARLY, Cases, case
from locksmith.testing.contract.faces import Face

MANY = 2**20


class LineCases(Cases):
    """First come, first served; nobody overtakes; the silent are passed over."""

    @case(needs=Guarantee.FIFO)
    async def test_the_line_is_served_in_order(self, face: Face) -> None:
        """FIFO, complaint 6: from several clients, in the order of arrival."""
        stores = [self.store(face) for _ in range(3)]
        held = await self.granted(stores[0], self.claim())
        tickets = [(s, await self.queued(s, self.claim())) for s in (*stores, *stores)]
        found = await stores[0].inspect("n")
        assert [w.owner for w in found.waiters] == [t.claim.owner for _, t in tickets]
        holder = stores[0]
        for store, ticket in tickets:
            assert await holder.release(held)
            held, holder = await self.handed(face, store, ticket), store
            assert held.claim == ticket.claim
        assert await holder.release(held)
        assert not (await holder.inspect("n")).holders

    @case(needs=Guarantee.FIFO)
    async def test_ticket_numbers_differ(self, face: Face) -> None:
        """A push for another ticket is not for us: every enqueue has a number of its own, also of one owner."""
        store = self.store(face)
        await self.granted(store, self.claim())
        claim = self.claim()
        first = await self.queued(store, claim)
        store.leave(first)
        await store.abandon(claim, tombstone=False)
        again = await self.queued(store, claim)
        other = await self.queued(store, self.claim())
        assert len({first.number, again.number, other.number}) == 3

    @case(needs=Guarantee.FIFO)
    async def test_a_try_does_not_overtake(self, face: Face) -> None:
        """FIFO, tries included: permits may be free, but somebody stands in line for them."""
        store = self.store(face)
        held = await self.granted(store, self.claim(permits=2, limit=3))
        ticket = await self.queued(store, self.claim(permits=2, limit=3))
        assert await store.acquire(self.claim(permits=1, limit=3), queue=False) is None
        behind = await self.queued(store, self.claim(permits=1, limit=3))
        assert await store.release(held)
        await self.handed(face, store, ticket)
        await self.handed(face, store, behind)

    @case(needs=Guarantee.FIFO)
    async def test_a_repeated_try_of_a_holder_is_no_overtaking(self, face: Face) -> None:
        """Rule 1 still holds while others wait."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        await self.queued(store, self.claim())
        again = await store.acquire(held.claim, queue=False)
        assert isinstance(again, Grant)
        assert again.token == held.token

    @case(needs=Guarantee.FIFO)
    async def test_writers_do_not_starve(self, face: Face) -> None:
        """Readers who come after a waiting writer wait behind it; those beside each other then enter together."""
        store = self.store(face)
        reader = await self.granted(store, self.claim(limit=MANY))
        writer = await self.queued(store, self.claim(permits=MANY, limit=MANY))
        late = [await self.queued(store, self.claim(limit=MANY)) for _ in range(2)]
        assert await store.acquire(self.claim(limit=MANY), queue=False) is None
        assert await store.release(reader)
        writing = await self.handed(face, store, writer)
        assert [ticket.inbox.peek() for ticket in late] == [None, None]
        assert await store.release(writing)
        for ticket in late:
            await self.handed(face, store, ticket)
        assert len((await store.inspect("n")).holders) == 2

    @case(needs=Guarantee.FIFO)
    async def test_one_release_serves_all_that_fit(self, face: Face) -> None:
        """Rule 5: grants from the head of the line until one does not fit; no bigger one is jumped over."""
        store = self.store(face)
        held = await self.granted(store, self.claim(permits=4, limit=4))
        first = await self.queued(store, self.claim(permits=1, limit=4))
        second = await self.queued(store, self.claim(permits=2, limit=4))
        big = await self.queued(store, self.claim(permits=3, limit=4))
        small = await self.queued(store, self.claim(permits=1, limit=4))
        assert await store.release(held)
        await self.handed(face, store, first)
        await self.handed(face, store, second)
        assert isinstance(await self.word(store, big), Waiting)
        assert isinstance(await self.word(store, small), Waiting)

    @case(needs=Guarantee.FIFO)
    async def test_another_limit_is_a_conflict_while_somebody_waits(self, face: Face) -> None:
        """The limit is stored while a name has holders or waiters."""
        store = self.store(face)
        held = await self.granted(store, self.claim(permits=2, limit=2))
        ticket = await self.queued(store, self.claim(permits=2, limit=2))
        with pytest.raises(SettingsConflict):
            await store.acquire(self.claim(limit=1), queue=True)
        assert await store.release(held)
        assert await store.release(await self.handed(face, store, ticket))
        await self.granted(store, self.claim(limit=1))

    @case(needs=Guarantee.FIFO | Guarantee.PUSH)
    async def test_a_waiter_is_told_without_asking(self, face: Face) -> None:
        """PUSH: the news arrive by themselves, to the one whose turn it is."""
        mine, theirs = self.store(face), self.store(face)
        held = await self.granted(theirs, self.claim())
        ticket = await self.queued(mine, self.claim())
        behind = await self.queued(mine, self.claim())

        async def wait() -> None:
            while ticket.inbox.peek() is None:
                await mine.wait(ticket, self.margin)

        waiting = face.start(wait())
        assert await theirs.release(held)
        await waiting.result(self.margin)
        assert isinstance(ticket.inbox.peek(), Grant)
        assert behind.inbox.peek() is None

    @case(needs=Guarantee.FIFO)
    async def test_a_wait_without_news_ends_in_time(self, face: Face) -> None:
        """`wait` returns after its time; the ticket stays where it is."""
        store = self.store(face)
        await self.granted(store, self.claim())
        ticket = await self.queued(store, self.claim())
        began = store.runtime.clock.now()
        await store.wait(ticket, 0.1)
        assert store.runtime.clock.now() - began < 0.1 + self.margin
        assert ticket.inbox.peek() is None
        assert isinstance(await self.word(store, ticket), Waiting)

    @case(needs=Guarantee.FIFO)
    async def test_news_wake_a_waiter_that_sleeps_without_bound(self, face: Face) -> None:
        """Closing a client delivers an error from another thread: whatever the store sleeps on, it wakes up."""
        store = self.store(face)
        await self.granted(store, self.claim())
        ticket = await self.queued(store, self.claim())

        async def wait() -> None:
            while ticket.inbox.peek() is None:
                await store.wait(ticket, None)

        waiting = face.start(wait())
        await face.sleep(0.05)
        ticket.inbox.deliver(Gone())
        await waiting.result(self.margin)
        store.leave(ticket)
        await store.abandon(ticket.claim, tombstone=False)

    # What a beat says.

    @case(needs=Guarantee.FIFO)
    async def test_a_beat_answers_item_by_item_and_in_order(self, face: Face) -> None:
        """Rule 2: one batch, many answers; what one of them is does not spoil the others."""
        store = self.store(face)
        held = await self.granted(store, self.claim("a"))
        given_back = await self.granted(store, self.claim("b"))
        assert await store.release(given_back)
        also_held = await self.granted(store, self.claim("b"))
        waiting = await self.queued(store, self.claim("a"))
        left = await self.queued(store, self.claim("b"))
        await store.abandon(left.claim, tombstone=False)
        before = store.runtime.clock.now()
        words = await store.beat([held, given_back, also_held], [left, waiting], within=5.0)
        assert [type(word) for word in words] == [Held, Lost, Held, Gone, Waiting]
        for word in (words[0], words[4]):
            assert isinstance(word, Held | Waiting)
            assert before <= word.since <= store.runtime.clock.now()
        assert await store.beat([], [], within=5.0) == []

    @case()
    async def test_many_leases_are_renewed_in_one_beat(self, face: Face) -> None:
        """Complaint 36: one batch for all of a client's leases, however many."""
        store = self.store(face)
        grants = [await self.granted(store, self.claim(f"n{number}")) for number in range(300)]
        assert await store.release(grants[150])
        words = await store.beat(grants, [], within=10.0)
        assert [type(word) for word in words] == [Held] * 150 + [Lost] + [Held] * 149

    @case()
    async def test_a_beat_keeps_a_lease_alive(self, face: Face) -> None:
        """Renewal: the count starts again, so a lease lives as long as it is heard of."""
        store = self.store(face)
        ttl = 2 * self.short
        grant = await self.granted(store, self.claim(ttl=ttl))
        until = store.runtime.clock.now() + 1.5 * ttl
        while store.runtime.clock.now() < until:
            await face.sleep(ttl / 8)
            word = await self.word(store, grant)
            assert isinstance(word, Held)
            assert word.ttl >= ttl
            assert await store.acquire(self.claim(), queue=False) is None

    @case(needs=Guarantee.FIFO)
    async def test_a_grant_found_by_a_beat_is_the_one_that_was_pushed(self, face: Face) -> None:
        """A lost push costs a beat, not the turn: the beat answers the ticket with its grant, again and again."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        ticket = await self.queued(store, self.claim())
        assert await store.release(held)
        first, second = await self.word(store, ticket), await self.word(store, ticket)
        assert isinstance(first, Grant)
        assert isinstance(second, Grant)
        assert first.token == second.token > held.token
        assert first.confirmed is self.by_session(face)

    # Handed over, confirmed, passed over.

    @case(needs=Guarantee.FIFO)
    async def test_a_handed_over_grant_counts_from_the_last_answered_word(self, face: Face) -> None:
        """Section 8: belief counts from t_send of the last answered "still waiting", and is of waiter_ttl.

        By a session it is of its ttl, and counts from the session's last answered word.
        """
        store = self.store(face)
        held = await self.granted(store, self.claim())
        ticket = await self.queued(store, self.claim(ttl=20.0, waiter_ttl=5.0))
        await face.sleep(0.05)
        assert await store.release(held)
        released = store.runtime.clock.now()
        grant = await self.handed(face, store, ticket)
        if self.by_session(face):
            assert grant.confirmed
            assert grant.ttl >= 20.0
        else:
            assert not grant.confirmed
            assert grant.ttl == pytest.approx(5.0)
            assert grant.since <= released

    @case(needs=Guarantee.FIFO)
    async def test_the_first_beat_turns_waiter_ttl_into_ttl(self, face: Face) -> None:
        """Section 8: confirming a hand-over gives it its real ttl."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        ticket = await self.queued(store, self.claim(ttl=20.0, waiter_ttl=self.short))
        assert await store.release(held)
        grant = await self.handed(face, store, ticket)
        word = await self.word(store, grant)
        assert isinstance(word, Held)
        assert word.ttl >= 20.0
        await face.sleep(self.short * 1.2)
        assert await store.acquire(self.claim(), queue=False) is None
        assert await store.release(grant) is True

    @case(needs=Guarantee.FIFO)
    async def test_an_unconfirmed_grant_ends_after_waiter_ttl(self, face: Face) -> None:
        """Section 8: a waiter that died before its turn costs the others one waiter_ttl, not a ttl."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        settings = {} if self.by_session(face) else {"ttl": 60.0}
        dead = await self.queued(store, self.silent(**settings))
        began = dead.word_at
        behind = await self.queued(store, self.claim())
        assert await store.release(held)
        within = self.short + self.late(face, self.short) + self.margin
        grant = await self.handed(face, store, behind, within)
        assert store.runtime.clock.now() - began >= self.short * (1 - EARLY)
        assert grant.token > held.token
        given = dead.inbox.peek()
        if isinstance(given, Grant):
            assert isinstance(await self.word(store, given), Lost)
            assert await store.release(given) is False
        assert isinstance(await self.word(store, dead), Gone)

    @case(needs=Guarantee.FIFO)
    async def test_releasing_an_unconfirmed_grant_is_enough(self, face: Face) -> None:
        """Section 8: a release confirms too."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        ticket, behind = await self.queued(store, self.claim()), await self.queued(store, self.claim())
        assert await store.release(held)
        assert await store.release(await self.handed(face, store, ticket)) is True
        await self.handed(face, store, behind)

    @case(needs=Guarantee.FIFO)
    async def test_a_silent_waiter_is_passed_over_and_told(self, face: Face) -> None:
        """Section 8, complaint 6: never a line wedged by the dead; who was passed over is told Gone."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        silent = await self.queued(store, self.silent())
        alive = await self.queued(store, self.claim())
        await face.sleep(self.short * 1.1 + 0.05)
        assert await store.release(held)
        await self.handed(face, store, alive, self.late(face, self.short) + self.margin)
        assert isinstance(await self.word(store, silent), Gone)
        again = await self.queued(store, silent.claim)
        assert again.number != silent.number

    @case(needs=Guarantee.FIFO)
    async def test_a_waiter_that_is_heard_of_keeps_its_place(self, face: Face) -> None:
        """Section 8: its beats keep it in line for longer than waiter_ttl."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        waiter_ttl = 2 * self.short
        ticket = await self.queued(store, self.silent(ttl=waiter_ttl, waiter_ttl=waiter_ttl))
        until = store.runtime.clock.now() + 1.5 * waiter_ttl
        while store.runtime.clock.now() < until:
            await face.sleep(waiter_ttl / 8)
            assert isinstance(await self.word(store, ticket), Waiting)
        behind = await self.queued(store, self.claim())
        assert isinstance(await self.word(store, ticket), Waiting)
        assert await store.release(held)
        await self.handed(face, store, ticket)
        assert isinstance(await self.word(store, behind), Waiting)

    @case(needs=Guarantee.FIFO)
    async def test_only_silent_waiters_do_not_use_a_name(self, face: Face) -> None:
        """A line of the dead neither blocks a try nor keeps a limit."""
        store = self.store(face)
        held = await self.granted(store, self.silent(permits=2, limit=2))
        await self.queued(store, self.silent(permits=2, limit=2))
        await self.outlive(face, held)
        await face.sleep(self.short)  # the waiter may have been granted the name meanwhile, for one waiter_ttl
        await self.nothing_left(face, "n")
        await self.granted(store, self.claim(limit=1))

    @case(needs=Guarantee.FIFO)
    async def test_a_foreign_ticket_is_gone(self, face: Face) -> None:
        """A ticket of a name nobody uses, or of an owner the line does not have, is told Gone."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        ticket = await self.queued(store, self.claim())
        await store.abandon(ticket.claim, tombstone=False)
        assert await store.release(held)
        word = await self.word(store, ticket)
        assert isinstance(word, Gone)
        assert not isinstance(word, Unknown)
