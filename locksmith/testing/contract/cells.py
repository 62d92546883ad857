"""Cases about cells: small shared values with a version, and optionally a ttl."""

from __future__ import annotations

import pytest

from locksmith.errors import CellConflict, CellTooLarge, InvalidName, LeaseLost
from locksmith.store import ABSENT, ANY, MAX_CELL_BYTES, Cell, Guarantee, Held, Store
from locksmith.testing.contract.base import EARLY, Cases, case
from locksmith.testing.contract.faces import Face

CELLS = Guarantee.CELLS


async def version(store: Store, key: str = "c") -> int:
    """The version of a cell that must be there."""
    cell = await store.get(key)
    assert isinstance(cell, Cell)
    return cell.version


class CellCases(Cases):
    """Compare and set, versions that only grow, ttl, and writing under the guard of a grant."""

    @case(needs=CELLS)
    async def test_what_was_put_can_be_got(self, face: Face) -> None:
        """By everybody, until it is deleted."""
        store, other = self.store(face), self.store(face)
        assert await store.get("c") is None
        put = await store.put("c", b"one")
        assert put > 0
        assert await other.get("c") == Cell(b"one", put)
        again = await other.put("c", b"two")
        assert await store.get("c") == Cell(b"two", again)
        assert await store.delete("c") is True
        assert await other.get("c") is None
        assert await store.delete("c") is False

    @case(needs=CELLS)
    async def test_cells_can_be_listed(self, face: Face) -> None:
        """By the beginning of their names, on as many pages as it takes; neither locks nor deleted cells among them."""
        store = self.store(face)
        await self.granted(store, self.claim("a:lock"))
        await store.put("a:gone", b"")
        await store.delete("a:gone")
        wanted = {f"a:{number}" for number in range(30)} | {"a:/..", "a:é{}*", "a:B", "a:~b"}
        for name in (*wanted, "b:1", "A:1", "a"):
            await store.put(name, b"x")
        for prefix, found in (("a:", wanted), ("a:é", {"a:é{}*"}), ("c", set()), ("", wanted | {"b:1", "A:1", "a"})):
            listed: list[str] = []
            page = await store.cells(prefix)
            listed += page.names
            while page.next is not None:
                page = await store.cells(prefix, page.next)
                listed += page.names
            assert sorted(set(listed)) == sorted(found)

    @case(needs=CELLS)
    async def test_any_bytes_can_be_put(self, face: Face) -> None:
        """Values are bytes, all 256 of them, also none at all."""
        store = self.store(face)
        for value in (
            b"",
            b"\x00",
            bytes(range(256)),
            "é🔒".encode(),
            b"'\"; DROP TABLE cells; --",
            b"\xff" * 1000,
            b" ",
        ):
            await store.put("c", value)
            cell = await store.get("c")
            assert cell is not None
            assert cell.value == value
            assert type(cell.value) is bytes

    @case(needs=CELLS)
    async def test_a_cell_has_a_largest_size(self, face: Face) -> None:
        """64 KB fit; one byte more is refused, and changes nothing."""
        store = self.store(face)
        largest = b"x" * MAX_CELL_BYTES
        was = await store.put("c", largest)
        with pytest.raises(CellTooLarge):
            await store.put("c", largest + b"x")
        assert await store.get("c") == Cell(largest, was)

    @case(needs=CELLS)
    async def test_a_write_may_expect_a_version(self, face: Face) -> None:
        """Compare and set: the conflict names the version that was found."""
        store = self.store(face)
        first = await store.put("c", b"1", expect=ABSENT)
        second = await store.put("c", b"2", expect=first)
        assert second > first
        for stale in (first, second + 1, 0):
            with pytest.raises(CellConflict) as conflict:
                await store.put("c", b"no", expect=stale)
            assert conflict.value.found == second
        with pytest.raises(CellConflict):
            await store.put("c", b"no", expect=ABSENT)
        assert await store.get("c") == Cell(b"2", second)
        assert await store.put("c", b"3", expect=ANY) > second

    @case(needs=CELLS)
    async def test_a_write_that_expects_something_finds_nothing(self, face: Face) -> None:
        """An absent cell has no version to expect."""
        store = self.store(face)
        with pytest.raises(CellConflict) as conflict:
            await store.put("c", b"no", expect=17)
        assert conflict.value.found is None
        assert await store.get("c") is None

    @case(needs=CELLS)
    async def test_a_delete_may_expect_a_version(self, face: Face) -> None:
        """Compare and delete."""
        store = self.store(face)
        first = await store.put("c", b"1")
        second = await store.put("c", b"2")
        for stale in (first, ABSENT):
            with pytest.raises(CellConflict):
                await store.delete("c", expect=stale)
        assert await store.delete("c", expect=second) is True
        with pytest.raises(CellConflict):
            await store.delete("c", expect=second)
        assert await store.delete("c", expect=ABSENT) is False

    @case(needs=CELLS)
    async def test_versions_grow_across_deletion(self, face: Face) -> None:
        """Who read a cell before it was deleted and made anew must not succeed with its old version."""
        store = self.store(face)
        versions = []
        for _ in range(4):
            versions.append(await store.put("c", b"x"))
            versions.append(await store.put("c", b"x"))
            await store.delete("c")
        expiring = await store.put("c", b"x", ttl=self.short)
        await face.sleep(self.short * 1.1 + 0.05)
        versions += [expiring, await store.put("c", b"x")]
        assert versions == sorted(set(versions))

    @case(needs=CELLS)
    async def test_one_of_many_writers_wins(self, face: Face) -> None:
        """Compare and set is atomic: of those who expect one version, one succeeds."""
        stores = [self.store(face) for _ in range(4)]
        first = await stores[0].put("c", b"0")

        async def write(store: Store) -> int:
            try:
                return await store.put("c", b"1", expect=first)
            except CellConflict:
                return 0

        jobs = [face.start(write(store)) for store in stores * 3]
        won = [put for put in [await job.result() for job in jobs] if put]
        assert won == [await version(stores[0])]

    @case(needs=CELLS)
    async def test_a_cell_lives_for_its_ttl(self, face: Face) -> None:
        """Never shorter; with EXACT_TTL not much longer. Without a ttl it stays."""
        store = self.store(face)
        clock = store.runtime.clock
        await store.put("stays", b"x")
        sent = clock.now()
        await store.put("c", b"x", ttl=self.short)
        while await store.get("c") is not None:
            assert clock.now() < sent + 2 * self.short + self.margin
            await face.sleep(0.005)
        assert clock.now() >= sent + self.short * (1 - EARLY)
        assert await store.get("stays") is not None
        assert await store.delete("c") is False
        await store.put("c", b"y", expect=ABSENT)

    @case(needs=CELLS)
    async def test_the_last_write_decides_about_the_ttl(self, face: Face) -> None:
        """A put without a ttl takes it away, one with a ttl sets it anew."""
        store = self.store(face)
        await store.put("c", b"1", ttl=self.short)
        await store.put("c", b"2")
        await store.put("d", b"1", ttl=self.short)
        await store.put("d", b"2", ttl=60.0)
        await store.put("e", b"1", ttl=60.0)
        await store.put("e", b"2", ttl=self.short)
        await face.sleep(self.short * 1.2 + 0.05)
        assert await store.get("c") is not None
        assert await store.get("d") is not None

        async def gone() -> bool:
            return await store.get("e") is None

        within = self.short + self.late(face, self.short) + self.margin
        await face.eventually(gone, within=within, what="the cell expired")

    @case(needs=CELLS)
    async def test_a_guarded_write_needs_the_grant(self, face: Face) -> None:
        """P2, complaint 42: the store itself checks the fencing token, in the step that writes."""
        store, other = self.store(face), self.store(face)
        grant = await self.granted(store, self.claim())
        first = await store.put("c", b"mine", guard=grant)
        assert await store.put("c", b"mine too", guard=grant, expect=first) > first
        assert await store.release(grant)
        theirs = await self.granted(other, self.claim())
        with pytest.raises(LeaseLost):
            await store.put("c", b"stale", guard=grant)
        with pytest.raises(LeaseLost):
            await store.put("c", b"stale", guard=theirs._replace(token=grant.token))
        with pytest.raises(LeaseLost):
            await store.delete("c", guard=grant)
        cell = await store.get("c")
        assert cell is not None
        assert cell.value == b"mine too"
        assert await other.delete("c", guard=theirs) is True
        assert isinstance(await self.word(other, theirs), Held)

    @case(needs=CELLS)
    async def test_an_expired_grant_guards_nothing(self, face: Face) -> None:
        """P7: also where nobody has taken the name since."""
        store = self.store(face)
        grant = await self.granted(store, self.claim(ttl=self.short))
        await self.outlive(face, grant)
        with pytest.raises(LeaseLost):
            await store.put("c", b"late", guard=grant)
        assert await store.get("c") is None

    @case(needs=CELLS)
    async def test_guards_work_with_permits_and_waiters(self, face: Face) -> None:
        """Whatever form the store keeps a holder in: one of several, one with a line behind it, one handed over."""
        store = self.store(face)
        several = [await self.granted(store, self.claim("s", limit=3)) for _ in range(2)]
        held = await self.granted(store, self.claim())
        ticket = await self.queued(store, self.claim())
        for grant in (*several, held):
            await store.put("c", b"x", guard=grant)
        assert await store.release(held)
        handed = await self.handed(face, store, ticket)
        await store.put("c", b"y", guard=handed)
        with pytest.raises(LeaseLost):
            await store.put("c", b"z", guard=held)

    @case(needs=CELLS)
    async def test_a_change_is_seen(self, face: Face) -> None:
        """`changed` returns the version as soon as it is another one, 0 for an absent cell, or after its time."""
        store, other = self.store(face), self.store(face)
        assert await store.changed("c", 0, 0.05) == 0
        first = await store.put("c", b"1")
        assert await store.changed("c", 0, self.margin) == first
        assert await store.changed("c", first, 0.05) == first
        watching = face.start(store.changed("c", first, 5 * self.margin))
        await face.sleep(0.05)
        second = await other.put("c", b"2")
        assert await watching.result() == second
        watching = face.start(store.changed("c", second, 5 * self.margin))
        await other.delete("c")
        assert await watching.result() == 0

    @case(needs=CELLS)
    async def test_cells_and_names_do_not_touch_each_other(self, face: Face) -> None:
        """A cell and a lock of the same name are two things; cells are not listed as names."""
        store = self.store(face)
        await store.put("n", b"x")
        assert (await store.names("")).names == []
        grant = await self.granted(store, self.claim())
        assert await store.delete("n") is True
        assert isinstance(await self.word(store, grant), Held)
        await store.put("n", b"y")
        assert await store.release(grant)
        assert await store.get("n") is not None

    @case(needs=CELLS)
    async def test_a_cell_needs_a_name(self, face: Face) -> None:
        """Bad names are refused as they are for locks."""
        store = self.store(face)
        for bad in ("", "x" * 1025):
            with pytest.raises(InvalidName):
                await store.get(bad)
            with pytest.raises(InvalidName):
                await store.put(bad, b"")
            with pytest.raises(InvalidName):
                await store.delete(bad)

    @case(needs=Guarantee.CLOCK)
    async def test_the_clock_can_be_read(self, face: Face) -> None:
        """CLOCK: microseconds that do not run backwards and run about as fast as ours."""
        store = self.store(face)
        readings = []
        for _ in range(5):
            reading = await store.now()
            assert isinstance(reading, int)
            readings.append(reading)
            await face.sleep(0.02)
        assert readings == sorted(readings)
        assert 0.05e6 < readings[-1] - readings[0] < (0.08 + self.margin) * 1e6
