"""Cases about grants: exclusion, tokens, repetition, giving back, undoing, taking away. Straight at the store."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest

from locksmith.errors import SettingsConflict
from locksmith.store import Grant, Guarantee, Held, Lost
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face


class GrantCases(Cases):
    """One at a time, with growing tokens, and only its own holder ends a grant."""

    @case()
    async def test_a_second_claim_is_refused_while_the_first_is_held(self, face: Face) -> None:
        """P1: a grant while another lease is live is illegal."""
        store, other = self.store(face), self.store(face)
        first = await self.granted(store, self.claim())
        assert await store.acquire(self.claim(), queue=False) is None
        assert await other.acquire(self.claim(), queue=False) is None
        assert await store.release(first) is True
        second = await self.granted(other, self.claim())
        assert await store.acquire(self.claim(), queue=False) is None
        assert await other.release(second) is True

    @case()
    async def test_names_do_not_touch_each_other(self, face: Face) -> None:
        """P1 is per name."""
        store = self.store(face)
        for name in ("a", "b", "ab", "a:b"):
            await self.granted(store, self.claim(name))

    @case()
    async def test_a_grant_says_what_was_granted_and_from_when(self, face: Face) -> None:
        """P3: `since` is read before the request is sent, so belief never outlives the store's own count."""
        store = self.store(face)
        before = store.runtime.clock.now()
        claim = self.claim(ttl=30.0)
        grant = await self.granted(store, claim)
        assert before <= grant.since <= store.runtime.clock.now()
        assert grant.ttl >= claim.ttl
        assert grant.confirmed
        assert isinstance(grant.token, int)
        assert grant.token > 0

    @case(needs=Guarantee.FENCED)
    async def test_tokens_grow_with_every_grant(self, face: Face) -> None:
        """P2, rule 7: over releases, expiry, eviction, abandon, and from one client to another."""
        one, other = self.store(face), self.store(face)
        tokens = []
        for round_ in range(6):
            holder = (one, other)[round_ % 2]
            grant = await self.granted(holder, self.claim())
            tokens.append(grant.token)
            giver = holder if one.by_connection else one
            ends = (
                partial(giver.release, grant),
                partial(one.evict, "n", grant.token),
                partial(giver.abandon, grant.claim, tombstone=False),
            )
            await ends[round_ % 3]()
        expiring = await self.granted(one, self.claim(ttl=self.short))
        tokens.append(expiring.token)
        await self.outlive(face, expiring)
        tokens.append((await self.granted(one, self.claim())).token)
        assert tokens == sorted(set(tokens))

    @case(needs=Guarantee.FENCED | Guarantee.FIFO)
    async def test_tokens_grow_with_handed_over_grants(self, face: Face) -> None:
        """P2 for the line: the next one in it gets a greater token."""
        store = self.store(face)
        grant = await self.granted(store, self.claim())
        tokens = [grant.token]
        for _ in range(3):
            ticket = await self.queued(store, self.claim())
            assert await store.release(grant)
            grant = await self.handed(face, store, ticket)
            tokens.append(grant.token)
        assert tokens == sorted(set(tokens))

    @case()
    async def test_repeating_an_acquire_returns_the_same_grant(self, face: Face) -> None:
        """Rule 1, P6: the reply was lost, the request is sent again with the same owner."""
        store, other = self.store(face), self.store(face)
        claim = self.claim()
        first = await self.granted(store, claim)
        for again in (store, other):
            if again is other and store.by_connection:
                # It cannot have it too, and must not believe that it has.
                assert not isinstance(await other.acquire(claim, queue=False), Grant)
                continue
            repeated = await again.acquire(claim, queue=True)
            assert isinstance(repeated, Grant)
            assert repeated.token == first.token
            # Who cannot prolong what another client has must not believe in it either.
            assert repeated.since >= first.since or (again is other and not store.heart_from_outside)
        assert len((await store.inspect("n")).holders) == 1
        assert await store.release(first) is True
        assert await store.release(first) is False

    @case()
    async def test_repeating_an_acquire_arms_the_ttl_anew(self, face: Face) -> None:
        """Rule 1: the repeated request starts the count again."""
        store = self.store(face)
        claim = self.claim(ttl=2 * self.short)
        first = await self.granted(store, claim)
        await face.sleep(self.short)
        again = await self.granted(store, claim)
        assert again.token == first.token
        assert again.since >= first.since + self.short * 0.9
        await face.sleep(self.short * 1.2)
        if store.runtime.clock.now() < again.since + claim.ttl * 0.9:  # else this machine slept too long to tell
            assert await store.acquire(self.claim(), queue=False) is None

    @case(needs=Guarantee.FIFO)
    async def test_repeating_an_enqueue_returns_the_same_ticket(self, face: Face) -> None:
        """Rule 1 for waiters: no second place in line, and the first one is kept."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        claim, behind = self.claim(), self.claim()
        ticket = await self.queued(store, claim)
        await self.queued(store, behind)
        again = await self.queued(store, claim)
        assert again.number == ticket.number
        assert [waiter.owner for waiter in (await store.inspect("n")).waiters] == [claim.owner, behind.owner]
        assert await store.release(held)
        await self.handed(face, store, again)

    @case()
    async def test_a_second_release_gives_nothing_back(self, face: Face) -> None:
        """Rule 4, P5: what was given back once is not ours any more, whoever holds it now."""
        store = self.store(face)
        mine = await self.granted(store, self.claim())
        assert await store.release(mine) is True
        assert await store.release(mine) is False
        theirs = await self.granted(store, self.claim())
        assert await store.release(mine) is False
        assert isinstance(await self.word(store, theirs), Held)

    @case()
    async def test_nobody_releases_or_renews_the_grant_of_another(self, face: Face) -> None:
        """Rule 4, P5, complaints 9 and smell 2: owner and token are checked by the store."""
        store = self.store(face)
        theirs = await self.granted(store, self.claim())
        strangers = [
            theirs._replace(claim=theirs.claim._replace(owner="0" * 32)),
            theirs._replace(token=theirs.token - 1),
            theirs._replace(token=theirs.token + 1),
        ]
        for stranger in strangers:
            assert isinstance(await self.word(store, stranger), Lost)
            assert await store.release(stranger) is False
        assert isinstance(await self.word(store, theirs), Held)
        assert await store.acquire(self.claim(), queue=False) is None
        assert await store.release(theirs) is True

    @case()
    async def test_an_old_grant_of_the_same_name_is_worth_nothing(self, face: Face) -> None:
        """P5, P7: a stale grant neither renews, releases nor disturbs its successor."""
        store = self.store(face)
        old = await self.granted(store, self.claim(ttl=self.short))
        await self.outlive(face, old)
        new = await self.granted(store, self.claim())
        assert isinstance(await self.word(store, old), Lost)
        assert await store.release(old) is False
        await store.abandon(old.claim, tombstone=True)
        assert isinstance(await self.word(store, new), Held)
        assert await store.release(new) is True

    @case()
    async def test_abandoning_a_grant_frees_the_name(self, face: Face) -> None:
        """Rule 3: undone after it was granted; idempotent."""
        store = self.store(face)
        claim = self.claim()
        grant = await self.granted(store, claim)
        for _ in range(2):
            await store.abandon(claim, tombstone=False)
        assert isinstance(await self.word(store, grant), Lost)
        assert await store.release(grant) is False
        await self.granted(store, self.claim())

    @case(needs=Guarantee.FIFO)
    async def test_abandoning_a_waiter_takes_it_out_of_the_line(self, face: Face) -> None:
        """Rule 3, complaints 11 and 13: undone while it waits; those behind it move up; idempotent."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        leaving, staying = self.claim(), self.claim()
        await self.queued(store, leaving)
        ticket = await self.queued(store, staying)
        for _ in range(2):
            await store.abandon(leaving, tombstone=False)
        assert [waiter.owner for waiter in (await store.inspect("n")).waiters] == [staying.owner]
        assert await store.release(held)
        await self.handed(face, store, ticket)

    @case()
    async def test_an_acquire_that_arrives_after_its_abandon_is_refused(self, face: Face) -> None:
        """Rule 3, P6: a stalled request that runs late leaves no orphan, because its owner has a tombstone."""
        store = self.store(face)
        for queue in (False, True):
            late = self.claim()
            await store.abandon(late, tombstone=True)
            assert await store.acquire(late, queue=queue) is None
        found = await store.inspect("n")
        assert not found.holders
        assert not found.waiters
        await self.granted(store, self.claim())

    @case()
    async def test_a_tombstone_refuses_a_repeated_acquire_too(self, face: Face) -> None:
        """Rule 3: granted, undone with a tombstone, and then the retry arrives."""
        store = self.store(face)
        claim = self.claim()
        await self.granted(store, claim)
        await store.abandon(claim, tombstone=True)
        await store.abandon(claim, tombstone=True)
        for queue in (False, True):
            assert await store.acquire(claim, queue=queue) is None
        held = await self.granted(store, self.claim())
        assert await store.acquire(claim, queue=True) is None
        assert await store.release(held) is True

    @case()
    async def test_abandoning_what_never_was_is_nothing(self, face: Face) -> None:
        """Rule 3: idempotent also where there is nothing to undo, and nobody else is hurt."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        await store.abandon(self.claim(), tombstone=False)
        await store.abandon(self.claim("another"), tombstone=False)
        assert isinstance(await self.word(store, held), Held)

    @case()
    async def test_evict_takes_the_name_from_one_holder(self, face: Face) -> None:
        """Complaint 30: an operator's force-release, of the token that was looked at and of no other."""
        store = self.store(face)
        held = await self.granted(store, self.claim())
        assert await store.evict("n", held.token + 1) is False
        assert await store.evict("never used", held.token) is False
        assert isinstance(await self.word(store, held), Held)
        assert await store.evict("n", held.token) is True
        assert await store.evict("n", held.token) is False
        assert isinstance(await self.word(store, held), Lost)
        assert await store.release(held) is False
        await self.granted(store, self.claim())

    @case(permits=True)
    async def test_another_limit_is_a_conflict_while_the_name_is_in_use(self, face: Face) -> None:
        """Two that disagree about the limit are told, and nothing of the second stays behind."""
        store = self.store(face)
        held = await self.granted(store, self.claim(limit=3))
        for queue in (False, True):
            for limit in (1, 2, 4):
                with pytest.raises(SettingsConflict):
                    await store.acquire(self.claim(limit=limit), queue=queue)
        found = await store.inspect("n")
        assert (found.limit, len(found.holders), len(found.waiters)) == (3, 1, 0)
        assert await store.release(held)
        again = await self.granted(store, self.claim(limit=2))
        assert (await store.inspect("n")).limit == 2
        assert await store.release(again)

    @case(permits=True)
    async def test_a_limit_is_free_again_when_its_holder_expired(self, face: Face) -> None:
        """Expired holders do not use a name."""
        store = self.store(face)
        held = await self.granted(store, self.claim(limit=3, ttl=self.short))
        await self.outlive(face, held)
        await self.granted(store, self.claim(limit=2))

    @case(permits=True)
    async def test_permits_are_counted(self, face: Face) -> None:
        """A semaphore is n of N; what was given back can be taken again."""
        store = self.store(face)
        two = await self.granted(store, self.claim(permits=2, limit=4))
        one = await self.granted(store, self.claim(permits=1, limit=4))
        assert await store.acquire(self.claim(permits=2, limit=4), queue=False) is None
        last = await self.granted(store, self.claim(permits=1, limit=4))
        assert await store.acquire(self.claim(permits=1, limit=4), queue=False) is None
        assert len({grant.token for grant in (one, two, last)}) == 3
        assert await store.release(two)
        await self.granted(store, self.claim(permits=2, limit=4))
        assert await store.acquire(self.claim(permits=1, limit=4), queue=False) is None

    @case(permits=True)
    async def test_each_permit_expires_with_its_own_holder(self, face: Face) -> None:
        """Complaint "ConcurrentRateLimiter": a crashed holder's permits return although others are busy."""
        store = self.store(face)
        crashed = await self.granted(store, self.claim(permits=2, limit=3, ttl=self.short))
        busy = await self.granted(store, self.claim(permits=1, limit=3))
        assert await store.acquire(self.claim(permits=1, limit=3), queue=False) is None
        await self.outlive(face, crashed)
        await self.granted(store, self.claim(permits=2, limit=3))
        assert isinstance(await self.word(store, busy), Held)

    @case(permits=True)
    async def test_readers_share_and_a_writer_excludes(self, face: Face) -> None:
        """A reader takes one permit of 2^20, a writer all of them."""
        many = 2**20
        store = self.store(face)
        readers = [await self.granted(store, self.claim(limit=many)) for _ in range(3)]
        assert await store.acquire(self.claim(permits=many, limit=many), queue=False) is None
        for reader in readers:
            assert await store.release(reader)
        await self.granted(store, self.claim(permits=many, limit=many))
        assert await store.acquire(self.claim(limit=many), queue=False) is None

    @case()
    async def test_records_pass_through_unchanged(self, face: Face) -> None:
        """`info` is for people: kept and never read; a claim is not rewritten."""
        store = self.store(face)
        info = '{"host":"h\\u00e9","pid":7,"note":"a \\"quoted\\" {note}: é 🔒 %s \\\\ \'; --"}'
        claim = self.claim(info=info)
        grant = await self.granted(store, claim)
        assert grant.claim == claim
        view = (await store.inspect("n")).holders[0]
        assert dataclasses.asdict(view)["info"] == info
