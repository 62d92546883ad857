"""Listings, eviction, the doctor's findings, and tokens and tombstones over time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from locksmith.store import Claim, Finding, Grant, Lost, Ticket
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import RedisServer
from locksmith_redis import RedisStore

pytestmark = pytest.mark.redis
Make = Callable[..., Claim]


async def listed(store: RedisStore, prefix: str = "") -> list[str]:
    """All pages."""
    found: list[str] = []
    after: str | None = None
    while True:
        page = await store.names(prefix, after)
        found += page.names
        after = page.next
        if after is None:
            return found


def test_names_among_many_other_keys(face: Any, start_redis: Any, claim: Make) -> None:
    """Only names in use, of this namespace, whatever characters they have and however long they are."""
    server = start_redis()
    store, neighbour = face.store(server.url, "app"), face.store(server.url, "app:lock")
    server.command("EVAL", "for i = 1, 5000 do redis.call('SET', 'other:' .. i, i) end", 0)
    wanted = ["plain", "a:b", "a/b", ".", "..", "*", "a*", "{x}", "a}", "\0", "ü" * 200, "x" * 1000, "a b", "A"]

    async def fill() -> None:
        for name in wanted:
            assert isinstance(await store.acquire(claim(name), queue=True), Grant)
        assert isinstance(await store.acquire(claim("shared " + "y" * 900, limit=2), queue=True), Grant)
        assert isinstance(await neighbour.acquire(claim("elsewhere"), queue=True), Grant)
        freed = await store.acquire(claim("freed"), queue=True)
        assert isinstance(freed, Grant)
        await store.release(freed)
        await store.abandon(claim("abandoned"), tombstone=True)
        await store.put("cell", b"x")

    face.run(fill())
    wanted.append("shared " + "y" * 900)
    assert sorted(face.run(listed(store))) == sorted(wanted)
    for prefix in ("a", "a:", ".", "*", "x" * 500, "shared y", "ü", "nothing"):
        expected = sorted(name for name in wanted if name.startswith(prefix))
        assert sorted(face.run(listed(store, prefix))) == expected, prefix


def test_waiters_alone_make_a_name_live(face: Any, store: RedisStore, claim: Make) -> None:
    async def waiting() -> list[str]:
        grant = await store.acquire(claim(ttl=0.05, lock_delay=20.0), queue=True)
        assert isinstance(grant, Grant)
        assert isinstance(await store.acquire(claim(), queue=True), Ticket)
        await store.runtime.sleep(0.1)
        return await listed(store)

    assert face.run(waiting()) == ["n"]
    shown = face.run(store.inspect("n"))
    assert shown.holders == []
    assert len(shown.waiters) == 1
    assert 19 < shown.closed_for <= 20


def test_tokens_grow_over_flush_and_restart(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    """Rule 7: whatever the server forgets, a later grant has a greater token. FLUSHALL also forgets the scripts."""
    server = start_redis()
    store = face.store(server.url, namespace)
    last = 0
    for forget in (
        lambda: None,
        lambda: server.command("FLUSHALL"),
        server.restart,
        lambda: (server.kill(), server.start()),
    ):
        forget()
        for _ in range(3):
            grant = face.run(store.acquire(claim(), queue=True))
            assert isinstance(grant, Grant)
            assert grant.token > last
            last = grant.token
            assert face.run(store.release(grant))


def test_tokens_grow_when_the_clock_does_not(face: Any, redis_server: RedisServer, namespace: str, claim: Make) -> None:
    """A remembered token ahead of the server's clock, as after the clock was set back, still grows."""
    store = face.store(redis_server.url, namespace)
    ahead = 9_000_000_000_000_000
    redis_server.command("SET", f"{namespace}:lock:{{n}}", f"F{ahead}")
    tokens = []
    for limit in (1, 2, 1):
        grant = face.run(store.acquire(claim(limit=limit), queue=True))
        assert isinstance(grant, Grant)
        tokens.append(grant.token)
        assert face.run(store.release(grant))
    assert tokens == [ahead + 1, ahead + 2, ahead + 3]


def test_a_request_that_arrives_after_its_undoing_is_refused(
    face: Any, start_redis: Any, namespace: str, claim: Make
) -> None:
    """Rule 3: the acquire hangs in the network, its caller gives up and leaves a tombstone; then it arrives."""
    server = start_redis()
    with Proxy(server.address) as proxy:
        slow = face.store(proxy.through(server.url) + "?timeout=0.2", namespace)
        store = face.store(server.url, namespace)
        for name in ("free", "in use"):
            face.run(slow.release(face.run(slow.acquire(claim("warm"), queue=True))))
            if name == "in use":
                face.run(store.acquire(claim(name, limit=3), queue=True))
            late = claim(name, limit=1 if name == "free" else 3)
            held = proxy.hold_request(matching=late.owner.encode())
            with pytest.raises(Exception, match="timeout"):
                face.run(slow.acquire(late, queue=True))
            face.run(store.abandon(late, tombstone=True))
            held.release()
            time.sleep(0.1)
            shown = face.run(store.inspect(name))
            assert late.owner not in {holder.owner for holder in shown.holders}
            assert shown.waiters == []
            assert face.run(store.acquire(late, queue=True)) is None
            other = face.run(store.acquire(claim(name, limit=late.limit), queue=True))
            assert isinstance(other, Grant)


def test_an_evicted_holder_learns_it(face: Any, store: RedisStore, claim: Make) -> None:
    async def evict() -> None:
        grant = await store.acquire(claim(lock_delay=0.2), queue=True)
        ticket = await store.acquire(claim(), queue=True)
        assert isinstance(grant, Grant)
        assert isinstance(ticket, Ticket)
        assert not await store.evict("n", grant.token + 1)
        assert await store.evict("n", grant.token)
        assert isinstance((await store.beat([grant], [], within=5))[0], Lost)
        assert not await store.release(grant)
        assert (await store.inspect("n")).closed_for > 0

    face.run(evict())


def test_findings(face: Any, start_redis: Any, namespace: str) -> None:
    server = start_redis(appendonly=True, config={"appendfsync": "everysec"})
    store = face.store(server.url, namespace)

    def found(level: str) -> list[Finding]:
        # How long a round trip takes is up to this machine.
        return [each for each in face.run(store.diagnose()) if each.level == level and "round trip" not in each.what]

    assert [finding.what for finding in found("warning")] == [
        "a crash forgets grants of the last second (appendfsync everysec)"
    ]
    server.command("CONFIG", "SET", "appendfsync", "always")
    assert found("warning") == found("error") == []
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert "noeviction" in found("warning")[0].advice
    server.command("CONFIG", "SET", "maxmemory", "1gb")
    assert "evicts locks" in found("error")[0].what
    used = int(str(server.command("INFO", "memory")).split("used_memory:")[1].split()[0])
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.command("CONFIG", "SET", "maxmemory", str(int(used * 1.03)))
    assert any("of maxmemory" in finding.what for finding in found("warning"))


def test_cell_versions_grow_over_everything(face: Any, start_redis: Any, namespace: str) -> None:
    server = start_redis()
    store = face.store(server.url, namespace)
    last = 0
    for forget in (
        lambda: None,
        lambda: face.run(store.delete("c")),
        lambda: server.command("FLUSHALL"),
        server.restart,
    ):
        forget()
        version = face.run(store.put("c", b"\x00\r\n\xff" * 100))
        assert version > last
        last = version
        cell = face.run(store.get("c"))
        assert cell is not None
        assert (cell.value, cell.version) == (b"\x00\r\n\xff" * 100, version)
