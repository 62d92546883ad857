"""Cases about names: any of them works, none meets another, and people can list and look at them."""

from __future__ import annotations

import pytest

from locksmith.errors import InvalidName
from locksmith.store import Guarantee, Store
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face

# ruff: noqa: RUF001 - ambiguous characters are the point
HOSTILE = (
    # separators and whatever means something to a server, a shell, a path or a pattern
    ".", "..", "...", "/", "//", "a/b", "a//b", "a/", "/a", "../a", "a/..", "a:b", "a::b", ":a", "a|b", "a,b", "a;b",
    "{a}", "a{b}c", "{", "}", "{}", "{{a}}", "[a]", "a[b]", "*", "a*", "?", "a?", "%", "a%", "%s", "%61", "_", "a_b",
    "\\", "a\\b", "\\x00", "~", "~~", "~61", "a~b", "'", '"', "`", "$(a)", "#", "&", "<a>", "a'; DROP TABLE n; --",
    "\x00", "a\x00b", "a\x00c", "a\x00", "\n", "a\nb", "a\r\nb", "a\r", "\t", "\x1b[31m", "\x7f", "\x85", "\u2028",
    # what a database's collation or a file system would take for the same
    "a", "A", "b", "B", " ", "  ", " a", "a ", "a  ", "\u00a0", "foo", "Foo", "FOO", "0", "00", "None", "null", "true",
    "cafe", "café", "cafe\u0301", "CAFÉ", "ß", "ss", "ı", "i", "I", "İ", "\u2126", "\u03a9", "ａ", "\u200b", "a\u200b",
    # beyond ASCII: other scripts, beyond the basic plane, file names that were no UTF-8
    "日本", "🔒", "👩\u200d💻", "\U0010ffff", "\ufeff", "\ud800", "\udfff", "\udcff", "a\udc80", "\udc80a",
    # long ones, which differ at their ends only
    "x" * 160, "x" * 161, "x" * 1023, "x" * 1024, "x" * 1023 + "y", "y" + "x" * 1023, "é" * 512, "é" * 511 + "e",
    "/" * 300, "/" * 301, "\x00" * 1024, "🔒" * 256,
)  # fmt: skip
"""Names that somebody's code has broken on. No two of them are the same name."""


async def listed(store: Store, prefix: str = "") -> list[str]:
    """All names that begin with a prefix, over all pages."""
    found: list[str] = []
    after: str | None = None
    for _ in range(1000):
        page = await store.names(prefix, after)
        found += page.names
        if (after := page.next) is None:
            return found
    raise AssertionError("the pages do not end")


class ListingCases(Cases):
    """Any text is a name; no two of them collide; what is used can be listed and looked at."""

    @case()
    async def test_hostile_names_work_and_never_collide(self, face: Face) -> None:
        """F19, complaints 17, 20 and 26: each is a lock of its own, and comes back from the listing as it was."""
        store = self.store(face)
        assert len(set(HOSTILE)) == len(HOSTILE)
        grants = {name: await self.granted(store, self.claim(name)) for name in HOSTILE}
        found = await listed(store)
        assert sorted(found) == sorted(HOSTILE)
        for name, grant in grants.items():
            view = await store.inspect(name)
            assert view.name == name
            assert [(h.owner, h.token) for h in view.holders] == [(grant.claim.owner, grant.token)]
            assert await store.acquire(self.claim(name), queue=False) is None
        for grant in grants.values():
            assert await store.release(grant) is True
        assert await listed(store) == []

    @case(needs=Guarantee.FIFO)
    async def test_hostile_names_have_lines_of_their_own(self, face: Face) -> None:
        """F19 in the general form of a name, with waiters, evictions and undoing."""
        store = self.store(face)
        for name in HOSTILE[::4]:
            held = await self.granted(store, self.claim(name))
            ticket = await self.queued(store, self.claim(name))
            assert await store.evict(name, held.token) is True
            grant = await self.handed(face, store, ticket)
            await store.abandon(grant.claim, tombstone=True)
        assert await listed(store) == []

    @case(needs=Guarantee.CELLS)
    async def test_hostile_names_of_cells(self, face: Face) -> None:
        """F19 for cells."""
        store = self.store(face)
        for number, name in enumerate(HOSTILE):
            await store.put(name, str(number).encode())
        for number, name in enumerate(HOSTILE):
            cell = await store.get(name)
            assert cell is not None
            assert cell.value == str(number).encode()
        for name in HOSTILE:
            assert await store.delete(name) is True

    @case()
    async def test_bad_names_are_refused(self, face: Face) -> None:
        """Part 8: empty, over-long and non-string names."""
        store = self.store(face)
        for bad in ("", "x" * 1025, "é" * 513, None, 7, b"bytes"):
            with pytest.raises(InvalidName):
                await store.inspect(bad)  # type: ignore[arg-type]
            with pytest.raises(InvalidName):
                await store.evict(bad, 1)  # type: ignore[arg-type]

    @case()
    async def test_two_namespaces_do_not_see_each_other(self, face: Face) -> None:
        """Users of one server are kept apart, whatever their namespaces and names look like put together."""
        spaces = [
            self.namespace,
            self.namespace + "x",
            self.namespace + ":",
            self.namespace + ":n",
            self.namespace.upper(),
        ]
        stores = [self.store(face, namespace=space) for space in spaces]
        taken = ("n", "n:n", ":n", "x:n", "n ")
        grants = [[await self.granted(store, self.claim(name)) for name in taken] for store in stores]
        for store, mine in zip(stores, grants, strict=True):
            assert sorted(await listed(store)) == sorted(taken)
            assert [h.owner for h in (await store.inspect("n")).holders] == [mine[0].claim.owner]
        assert await stores[0].evict("n", grants[1][0].token) is (grants[0][0].token == grants[1][0].token)
        for store, mine in zip(stores[1:], grants[1:], strict=True):
            for grant in mine:
                assert await store.release(grant) is True
            assert await listed(store) == []
        assert len(await listed(stores[0])) >= len(taken) - 1

    @case(needs=Guarantee.CELLS)
    async def test_cells_of_two_namespaces(self, face: Face) -> None:
        """Cells are kept apart as names are."""
        mine, theirs = self.store(face), self.store(face, namespace=self.namespace + "x")
        await mine.put("c", b"mine")
        assert await theirs.get("c") is None
        await theirs.put("c", b"theirs")
        assert await theirs.delete("c") is True
        cell = await mine.get("c")
        assert cell is not None
        assert cell.value == b"mine"

    @case()
    async def test_names_are_listed_by_prefix_and_page_by_page(self, face: Face) -> None:
        """However many; each once; patterns in a prefix are plain text; case counts."""
        store = self.store(face)
        wanted = [f"job:{number}" for number in range(230)]
        others = ["Job:1", "jo", "xjob:1", "job%1", "job_1", "job*", "job?1", "job[0-9]1", "job\\1"]
        for name in wanted + others:
            await self.granted(store, self.claim(name))
        assert sorted(await listed(store, "job:")) == sorted(wanted)
        assert sorted(await listed(store)) == sorted(wanted + others)
        for name in others:
            assert await listed(store, name) == [name] or name == "jo"
        for prefix in ("job%", "job_", "job*", "job?", "job[", "job\\"):
            assert await listed(store, prefix) == [name for name in others if name.startswith(prefix)]
        assert await listed(store, "nothing") == []

    @case()
    async def test_long_names_are_listed_by_prefix_too(self, face: Face) -> None:
        """A name that is kept as a hash is found by the beginning of the name, not of the hash."""
        store = self.store(face)
        names = ["é" * 300 + end for end in ("a", "b")]
        for name in names:
            await self.granted(store, self.claim(name))
        assert sorted(await listed(store, "é" * 200)) == names
        assert await listed(store, "é" * 300 + "a") == names[:1]

    @case()
    async def test_names_nobody_uses_are_not_listed(self, face: Face) -> None:
        """Neither released nor expired ones, nor those of cells."""
        store = self.store(face)
        released = await self.granted(store, self.claim("released"))
        expired = await self.granted(store, self.claim("expired", ttl=self.short))
        await self.granted(store, self.claim("held"))
        assert await store.release(released)
        await self.outlive(face, expired)
        assert await listed(store) == ["held"]

    @case(needs=Guarantee.FIFO)
    async def test_inspection_shows_holders_and_waiters(self, face: Face) -> None:
        """Complaint 31: contention is visible: who, since when, for how long, in which order."""
        store = self.store(face)
        first = await self.granted(store, self.claim(permits=2, limit=3, ttl=20.0, info='{"host":"one"}'))
        second = await self.granted(store, self.claim(permits=1, limit=3, ttl=40.0))
        waiters = [await self.queued(store, self.claim(permits=n, limit=3, info=f'{{"n":{n}}}')) for n in (3, 1)]
        await face.sleep(0.05)
        found = await store.inspect("n")
        assert (found.name, found.limit, found.closed_for) == ("n", 3, 0)
        assert found.token == second.token
        views = {view.owner: view for view in found.holders}
        assert set(views) == {first.claim.owner, second.claim.owner}
        view = views[first.claim.owner]
        assert (view.token, view.permits, view.info) == (first.token, 2, '{"host":"one"}')
        assert 0.04 < view.since < self.margin
        if Guarantee.EXACT_TTL in store.guarantees:
            assert 20.0 - self.margin < view.expires_in < 20.0
        else:
            assert 0 < view.expires_in <= first.ttl
        assert [(w.owner, w.permits, w.info) for w in found.waiters] == [
            (t.claim.owner, t.claim.permits, t.claim.info) for t in waiters
        ]
        assert all(0.04 < w.since < self.margin for w in found.waiters)

    @case()
    async def test_inspection_of_one_holder_and_of_nobody(self, face: Face) -> None:
        """The hot path's own form, and names that are free, were never used, or whose holder expired."""
        store = self.store(face)
        grant = await self.granted(store, self.claim(ttl=self.short))
        found = await store.inspect("n")
        assert (found.limit, found.token, found.waiters) == (1, grant.token, [])
        assert [(h.owner, h.token, h.permits) for h in found.holders] == [(grant.claim.owner, grant.token, 1)]
        assert 0 < found.holders[0].expires_in <= grant.ttl
        await self.outlive(face, grant)
        for name in ("n", "never used"):
            found = await store.inspect(name)
            assert (found.name, found.limit, found.holders, found.waiters) == (name, None, [], [])
            assert found.token in (0, grant.token)

    @case()
    async def test_inspection_shows_renewals(self, face: Face) -> None:
        """`since` counts from the grant, `expires_in` from the last beat."""
        store = self.store(face)
        grant = await self.granted(store, self.claim(ttl=20.0))
        await face.sleep(0.3)
        before = (await store.inspect("n")).holders[0]
        await self.word(store, grant)
        after = (await store.inspect("n")).holders[0]
        if Guarantee.EXACT_TTL in store.guarantees:
            assert after.expires_in > before.expires_in + 0.2
        assert after.since >= before.since > 0.25

    @case()
    async def test_the_address_is_for_people(self, face: Face) -> None:
        """It says where the store is; the contract's own namespace and secrets are not in it."""
        store = self.store(face)
        assert isinstance(store.address, str)
        assert store.address
        for finding in await store.diagnose():
            assert finding.level in ("ok", "warning", "error")
            assert finding.what

    @case()
    async def test_what_it_needs_may_be_created_beforehand(self, face: Face) -> None:
        """Tables and the like, of a store that needs them: created as often as one likes, and in use all the same."""
        store = self.store(face)
        assert all(statement.strip() for statement in store.ddl())
        grant = await self.granted(store, self.claim())
        await store.create()
        await store.create()
        assert await store.release(grant) is True
