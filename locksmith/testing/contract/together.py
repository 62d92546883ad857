"""Cases about multi-locks: several names, all of them or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from locksmith.errors import AcquireTimeout, ClientClosed, LeaseLost, SelfDeadlock, SettingsConflict, StoreUnavailable
from locksmith.store import Claim, Grant, Guarantee, Store
from locksmith.testing.contract.base import case
from locksmith.testing.contract.faces import Face, Job
from locksmith.testing.contract.procs import WithWorkers
from locksmith.testing.faults import FaultyStore

NAMES = ("a", "b", "c")


class MultiLockCases(WithWorkers):
    """All or nothing, whoever else wants which of the names, and in whichever order."""

    async def holders(self, client: Any) -> dict[str, int]:
        """The tokens of those who hold the names."""
        found = {}
        for name in NAMES:
            for view in (await client.inspect(name)).holders:
                found[name] = view.token
        return found

    def claims(self, names: Sequence[str] = NAMES, **settings: Any) -> list[Claim]:
        """Claims as a multi-lock makes them."""
        return [self.claim(name, **settings) for name in sorted(names)]

    async def together(self, store: Store, claims: Sequence[Claim]) -> list[Grant] | None:
        """What the store's one step says; where it has none, the same one by one."""
        if store.takes_together(claims):
            return await store.acquire_all(claims)
        grants = []
        for claim in claims:
            try:
                reply = await store.acquire(claim, queue=False)
            except SettingsConflict:
                for undone in claims:
                    await store.abandon(undone, tombstone=False)
                raise
            if not isinstance(reply, Grant):
                for undone in claims:
                    await store.abandon(undone, tombstone=False)
                return None
            grants.append(reply)
        return grants

    # Through a client.

    @case()
    async def test_several_names_are_held_and_given_back(self, face: Face) -> None:
        """In the user's order, each with its fencing token, and each like a lock of its own to everybody else."""
        client, other = self.connect(face), self.connect(face)
        lease: Any = await client.lock_all(["c", "a", "b"], ttl=30).acquire(note="three")
        assert lease.names == ("c", "a", "b")
        assert lease.tokens == await self.holders(other)
        assert lease.held
        assert 0 < lease.remaining() <= lease.ttl
        lease.check()
        for name in NAMES:
            assert await other.lock(name).try_acquire() is None
        assert await other.lock_all(["b"]).try_acquire() is None
        assert not lease.lost.is_set()
        assert await lease.release() is True
        assert not lease.held
        assert (await lease.release(), lease.remaining(), lease.lost.names) == (False, 0.0, ())
        await self.nothing_left(face, *NAMES)

    @case()
    async def test_a_refusal_leaves_nothing(self, face: Face) -> None:
        """Whichever of the names is taken: a try holds none of the others afterwards, nor does a wait in vain."""
        client, other = self.connect(face), self.connect(face)
        for taken in NAMES:
            async with other.lock(taken).acquire():
                assert await client.lock_all(NAMES).try_acquire() is None
                with pytest.raises(AcquireTimeout):
                    await client.lock_all(NAMES).acquire(wait=0)
                with pytest.raises(AcquireTimeout):
                    await client.lock_all(NAMES).acquire(wait=0.05)
                for name in set(NAMES) - {taken}:
                    await self.nothing_left(face, name)
                    assert await (await other.lock(name).acquire(wait=0)).release() is True
                assert not (await other.inspect(taken)).waiters
        async with client.lock_all(NAMES).acquire(wait=0):
            pass
        await self.nothing_left(face, *NAMES)

    @case(needs=Guarantee.FENCED)
    async def test_tokens_of_each_name_grow(self, face: Face) -> None:
        """P2: whether a name was taken alone, together with others, by waiting or at once."""
        client = self.connect(face)
        tokens: dict[str, list[int]] = {name: [] for name in NAMES}
        for names in (("a", "b"), ("b", "c"), ("c", "b", "a")):
            async with client.lock_all(names).acquire() as lease:
                for name, token in lease.tokens.items():
                    tokens[name].append(token)
            async with client.lock("b").acquire() as alone:
                tokens["b"].append(alone.token)
                waiting: Job[Any] = face.start(self._all(client, names))
                await self.in_line(face, client, name="b")
            waited = await waiting.result()
            for name, token in waited.tokens.items():
                tokens[name].append(token)
            assert await waited.release()
        for name in NAMES:
            assert len(tokens[name]) >= 4
            assert tokens[name] == sorted(set(tokens[name])), name

    async def _all(self, client: Any, names: Sequence[str] = NAMES, wait: float | None = 60) -> Any:
        return await client.lock_all(names).acquire(wait=wait)

    @case(needs=Guarantee.FIFO)
    async def test_names_are_waited_for_in_their_lines(self, face: Face) -> None:
        """Nobody is overtaken, and nobody waits in a circle: what comes later in the order is not held meanwhile."""
        client, other = self.connect(face), self.connect(face)
        first, third = await other.lock("a").acquire(), await other.lock("c").acquire()
        waiting: Job[Any] = face.start(self._all(client, ("c", "b", "a")))
        await self.in_turn(face, other, "a", 2, "c", 1)
        assert await (await other.lock("b").acquire(wait=0)).release() is True
        behind: Job[Any] = face.start(self._one(other, "a"))
        await self.in_line(face, other, 2, name="a")
        assert await first.release()
        await self.in_line(face, other, name="c")
        assert set(await self.holders(other)) == {"a", "b", "c"}
        assert not behind.done()
        assert await third.release()
        lease = await waiting.result()
        assert lease.held
        assert await client.lock_all(["a", "d"]).try_acquire() is None
        assert await lease.release() is True
        assert await (await behind.result()).release() is True
        await self.nothing_left(face, *NAMES, "d")

    async def in_turn(self, face: Face, client: Any, name: str, count: int, last: str, others: int) -> None:
        """Return when so many hold and want `name`, and `last` only so many: one of them goes from name to name.

        Stores that cannot ask whether a line is empty (ZooKeeper, Consul) stand in all lines for a moment at first.
        """

        async def owners(of: str) -> list[str]:
            view = await client.inspect(of)
            return [each.owner for each in [*view.holders, *view.waiters]]

        async def stays() -> bool:
            before = await owners(name)
            return len(before) == count and len(await owners(last)) == others and await owners(name) == before

        await face.eventually(stays, within=20, what=f"{name!r} is held or waited for, and {last!r} not yet")

    async def _one(self, client: Any, name: str) -> Any:
        return await client.lock(name).acquire(wait=60)

    @case()
    async def test_opposite_orders_among_threads_or_tasks(self, face: Face) -> None:
        """No deadlock: several who want overlapping names in all orders all get their turns."""
        client = self.connect(face)
        inside: dict[str, int] = dict.fromkeys(NAMES, 0)

        async def work(names: Sequence[str]) -> int:
            for _ in range(8):
                async with client.lock_all(names).acquire(wait=100):
                    for name in names:
                        inside[name] += 1
                        assert inside[name] == 1
                    await face.sleep(0.001)
                    for name in names:
                        inside[name] -= 1
            return 8

        orders = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b", "a")]
        jobs = [face.start(work(names)) for names in orders]
        for job in jobs:
            assert await job.result(100) == 8
        await self.nothing_left(face, *NAMES)

    @case()
    async def test_a_lost_name_is_told_once(self, face: Face) -> None:
        """P4: on_lost once, and which name it was; the others stay held until they are given back."""
        client, other = self.connect(face), self.connect(face)
        told: list[tuple[str, ...]] = []
        lease: Any = await client.lock_all(NAMES, ttl=3 * self.short).acquire()
        lease.on_lost(lambda: told.append(lease.lost.names))
        assert await other.evict("b", lease.tokens["b"]) is True
        assert await lease.lost.wait(20) is True
        await face.eventually(lambda: told, what="on_lost was called")
        if self.by_connection(face):
            # What shares its connection was lost with it; which of them were known to be when it was told, is all one.
            assert len(told) == 1
            assert "b" in told[0]
            await client.close()
            await self.nothing_left(face, *NAMES)
            return
        assert told == [("b",)]
        assert (lease.held, lease.remaining(), lease.lost.is_set()) == (False, 0.0, True)
        with pytest.raises(LeaseLost, match="'b'"):
            lease.check()
        assert await other.lock("a").try_acquire() is None
        late: list[str] = []
        lease.on_lost(lambda: late.append("told at once"))
        await face.eventually(lambda: late, what="a late callback was called")
        with pytest.raises(LeaseLost, match="'b'"):
            await lease.release()
        async with other.lock_all(["a", "c"]).acquire(wait=self.margin):
            pass
        await client.close()
        assert (told, late) == ([("b",)], ["told at once"])

    @case(needs=Guarantee.FIFO)
    async def test_a_name_lost_while_another_is_waited_for(self, face: Face) -> None:
        """All is given back and waited for anew; what is got in the end is held at the same time."""
        client, other = self.connect(face, ttl=3 * self.short), self.connect(face)
        held = await other.lock("b").acquire()
        waiting: Job[Any] = face.start(self._all(client))
        await self.in_turn(face, other, "a", 1, "c", 0)
        await self.in_line(face, other, name="b")
        (first,) = (await other.inspect("a")).holders
        assert await other.evict("a", first.token) is True

        async def began_again() -> bool:
            views = (await other.inspect("a")).holders
            return bool(views) and views[0].token > first.token and len((await other.inspect("b")).waiters) == 1

        await face.eventually(began_again, within=20, what="all names are waited for anew")
        assert await held.release()
        lease = await waiting.result()
        assert lease.held
        assert lease.tokens["a"] > first.token
        assert await lease.release() is True
        await self.nothing_left(face, *NAMES)

    @case()
    async def test_a_thread_or_task_does_not_wait_for_itself(self, face: Face) -> None:
        """As for one lock: without bound it would be for ever. Nothing of it stays behind."""
        client = self.connect(face)
        lease: Any = await client.lock("b").acquire()
        with pytest.raises(SelfDeadlock):
            await client.lock_all(NAMES).acquire()
        await self.nothing_left(face, "a", "c")
        assert await lease.release() is True

    @case(permits=True)
    async def test_a_name_with_another_limit(self, face: Face) -> None:
        """SettingsConflict, and nothing of the other names."""
        client, other = self.connect(face), self.connect(face)
        for taken in NAMES:
            async with other.semaphore(taken, limit=2).acquire():
                for wait in (0, 5):
                    with pytest.raises(SettingsConflict):
                        await client.lock_all(NAMES).acquire(wait=wait)
                await self.nothing_left(face, *(set(NAMES) - {taken}))
        async with client.lock_all(NAMES).acquire(wait=self.margin):
            pass

    @case()
    async def test_closing_gives_everything_back(self, face: Face) -> None:
        """What is held, and what is half held while the rest is waited for."""
        client, other = self.connect(face), self.connect(face)
        await client.lock_all(["x", "y"]).acquire()
        async with other.lock("b").acquire():
            waiting: Job[Any] = face.start(self._all(client))
            await face.eventually(self._half_held(other), what="one name is held, the next one waited for")
            await client.close()
            with pytest.raises((ClientClosed, LeaseLost)):
                await waiting.result()
            await self.nothing_left(face, "a", "c", "x", "y")
        await self.nothing_left(face, *NAMES)

    def _half_held(self, client: Any) -> Any:
        async def half() -> bool:
            return bool((await client.inspect("a")).holders)

        return half

    @case()
    async def test_an_unknown_outcome_is_undone(self, face: Face) -> None:
        """P6, rule 3: the answer is lost after the store said yes; the error is raised and nothing is left."""
        store = FaultyStore(self.store(face))
        client, mine = face.client_over(store), store.runtime.context()  # the keeper's beats are not what is meant
        for number in (1, 2):
            met = store.fail_at(number, "after", lambda: StoreUnavailable("the answer was lost"), mine=mine)
            try:
                lease: Any = await client.lock_all(NAMES).acquire(wait=0)
            except StoreUnavailable:
                assert met
            else:
                with pytest.raises(StoreUnavailable):
                    await lease.release()
                assert not lease.held
                store.after = None
                assert await lease.release() in (True, False)  # the keeper may have been faster
            store.before = store.after = None
            await self.nothing_left(face, *NAMES)
        await client.close()

    # Straight at the store.

    @case()
    async def test_a_repeated_request_has_the_same_answer(self, face: Face) -> None:
        """Rule 1: the same tokens; where one was lost meanwhile, and somebody else has it, all is given back."""
        store = self.store(face)
        claims = self.claims()
        first = await self.together(store, claims)
        assert first is not None
        again = await self.together(store, claims)
        assert again is not None
        assert [grant.token for grant in again] == [grant.token for grant in first]
        assert await store.release(again[1]) is True
        rival = await self.granted(store, self.claim("b"))
        assert await self.together(store, claims) is None
        await self.nothing_left(face, "a", "c")
        assert await store.release(rival) is True
        await self.nothing_left(face, *NAMES)

    @case()
    async def test_an_abandoned_owner_is_refused(self, face: Face) -> None:
        """Rule 3: also where only one of the names was abandoned, and undoing it once more does not lift that."""
        store = self.store(face)
        claims = self.claims()
        await store.abandon(claims[1], tombstone=True)
        await store.abandon(claims[1], tombstone=False)
        assert await store.acquire(claims[1], queue=False) is None
        assert await self.together(store, claims) is None
        assert await self.together(store, claims) is None
        await self.nothing_left(face, *NAMES)
        assert await self.together(store, self.claims()) is not None

    @case()
    async def test_what_has_expired_is_free(self, face: Face) -> None:
        """P8: silent holders of some of the names are ended by whoever asks for all of them."""
        store, client = self.store(face), self.connect(face)
        silent = [await self.granted(store, self.silent(name=name)) for name in ("a", "c")]
        for grant in silent:
            await self.outlive(face, grant)
        lease: Any = await client.lock_all(NAMES).acquire(wait=0)
        for grant in silent:
            assert lease.tokens[grant.claim.name] > grant.token
        assert await lease.release() is True

    @case(needs=Guarantee.LOCK_DELAY)
    async def test_a_closed_name_is_not_free(self, face: Face) -> None:
        """A lock_delay after a loss holds for multi-locks too, and one of theirs closes each name that was lost."""
        store, client = self.store(face), self.connect(face)
        grant = await self.granted(store, self.claim("b", lock_delay=60))
        assert await store.evict("b", grant.token) is True
        assert await client.lock_all(NAMES).try_acquire() is None
        await self.nothing_left(face, *NAMES)
        lease: Any = await client.lock_all(["x", "y"], lock_delay=60).acquire()
        assert await client.evict("x", lease.tokens["x"]) is True
        with pytest.raises(LeaseLost):
            await lease.release()
        assert await client.lock("x").try_acquire() is None
        async with client.lock("y").acquire(wait=0):
            pass

    # Processes.

    @case(shared=True)
    async def test_opposite_orders_among_processes(self, face: Face) -> None:
        """P1, P2: no deadlock, no increment lost under any of the names, and the tokens of each come in order."""
        folder = Path(self.folder)
        for name in NAMES:
            (folder / name).write_text("0", "utf-8")
        orders = [("a", "b", "c"), ("c", "b", "a"), ("b", "a")]
        with self.workers(face, len(orders)) as workers:
            for worker, names in zip(workers, orders, strict=True):
                worker.tell("count_all", names=names, folder=str(folder), times=self.turns)
            for worker in workers:
                assert await self.on(face, worker.answer, 90) == self.turns
        for name in NAMES:
            expected = self.turns * sum(name in names for names in orders)
            assert int((folder / name).read_text("utf-8")) == expected
            tokens = [int(line) for line in (folder / name).with_suffix(".tokens").read_text("utf-8").split()]
            assert len(tokens) == expected
            if Guarantee.FENCED in self.guarantees(face):
                assert tokens == sorted(set(tokens))
        await self.nothing_left(face, *NAMES)

    turns = 10

    @case(shared=True)
    async def test_a_killed_process_frees_all_names(self, face: Face) -> None:
        """F1, P8: SIGKILL while it holds them; all can be had when its ttl is over, with greater tokens."""
        client, ttl = self.connect(face), 2 * self.short
        with self.workers(face) as [worker]:
            tokens = await self.on(face, worker.ask, "acquire_all", names=NAMES, ttl=ttl)
            await face.sleep(1.2 * ttl)
            assert await client.lock_all(["c", "d"]).try_acquire() is None
            worker.kill()
            lease: Any = await client.lock_all(["c", "b", "a"]).acquire(wait=3 * (ttl + self.late(face, ttl)) + 20)
            for name, token in tokens.items():
                assert lease.tokens[name] > token
            assert await lease.release() is True
