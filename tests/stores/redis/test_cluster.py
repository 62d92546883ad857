"""Names on several nodes: pushes from each, slots that move, nodes that die or freeze, cells guarded from elsewhere."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis
import redis.asyncio
from redis import cluster as theirs
from testkit.slots import on_node, slot

from locksmith.errors import ConfigurationError, LeaseLost, StoreProtocolError, StoreUnavailable
from locksmith.runtime import Blocking
from locksmith.store import ANY, Gone, Grant, Held, Lost, Ticket, Waiting
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.servers import RedisCluster
from locksmith_redis import RedisClusterStore

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

PATIENCE = 40.0


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Any:
    return FACES[request.param]()


def subscribed(node: Any) -> int:
    return len([line for line in str(node.command("CLIENT", "LIST", "TYPE", "pubsub")).splitlines() if line])


async def handed(store: Any, ticket: Any) -> Any:
    """The push alone: nothing is asked."""
    until = time.monotonic() + PATIENCE
    while ticket.inbox.peek() is None:
        assert time.monotonic() < until
        await store.wait(ticket, 1.0)
    store.leave(ticket)
    return ticket.inbox.peek()


def test_one_subscription_per_node_however_many_names(face: Face, namespace: str, claim: Any) -> None:
    async def work(cluster: RedisCluster) -> None:
        store, other = face.store(cluster.url, namespace), face.store(cluster.url, namespace)
        wanted = [name for number in range(3) for name in on_node(number, 4)]
        held = [await other.acquire(claim(name), queue=False) for name in wanted]
        tickets = [await store.acquire(claim(name, waiter_ttl=30.0), queue=True) for name in wanted]
        assert [subscribed(node) for node in cluster.primaries] == [1, 1, 1]
        for grant, ticket in zip(held, tickets, strict=True):
            assert isinstance(grant, Grant)
            assert await other.release(grant) is True
            got = await handed(store, ticket)
            assert isinstance(got, Grant)
            assert isinstance((await store.beat([got], [], within=5.0))[0], Held)

    with RedisCluster(node_timeout=15.0) as cluster:
        face.run(work(cluster))


def test_a_beat_speaks_of_names_on_all_nodes(
    face: Face, redis_cluster: RedisCluster, namespace: str, claim: Any
) -> None:
    async def work() -> None:
        store = face.store(redis_cluster.url, namespace)
        wanted = [name for number in range(3) for name in on_node(number, 3)]
        grants = [await store.acquire(claim(name), queue=False) for name in wanted]
        tickets = [await store.acquire(claim(name), queue=True) for name in wanted]
        assert await store.release(grants[4]) is True  # type: ignore[arg-type]
        await store.abandon(tickets[7].claim, tombstone=False)  # type: ignore[union-attr]
        words = await store.beat(grants, tickets, within=5.0)  # type: ignore[arg-type]
        assert [type(word) for word in words[:9]] == [Held] * 4 + [Lost] + [Held] * 4
        assert [type(word) for word in words[9:]] == [Waiting] * 4 + [Grant] + [Waiting] * 2 + [Gone, Waiting]
        for node in redis_cluster.primaries:
            node.command("SCRIPT", "FLUSH")
        again = await store.beat([grants[0], grants[8]], [tickets[0]], within=5.0)  # type: ignore[list-item]
        assert [type(word) for word in again] == [Held, Held, Waiting]

    face.run(work())


def test_a_slot_that_moves_is_followed(face: Face, namespace: str, claim: Any) -> None:
    """ASK while it moves, MOVED afterwards; leases, tickets and cells go along."""

    async def work(cluster: RedisCluster) -> None:
        store, other = face.store(cluster.url, namespace), face.store(cluster.url, namespace)
        (name,) = on_node(0)
        source, target = cluster.primaries[0], cluster.primaries[1]
        number = slot(name)
        grant = await other.acquire(claim(name), queue=False)
        assert isinstance(grant, Grant)
        ticket = await store.acquire(claim(name, waiter_ttl=30.0), queue=True)
        assert isinstance(ticket, Ticket)
        version = await store.put(name, b"value", guard=grant)
        target.command("CLUSTER", "SETSLOT", number, "IMPORTING", source.id)
        source.command("CLUSTER", "SETSLOT", number, "MIGRATING", target.id)
        keys = source.command("CLUSTER", "GETKEYSINSLOT", number, 10)
        assert isinstance(keys, list)
        source.command("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys)  # type: ignore[arg-type]
        cell = await store.get(name)  # ASK
        assert cell is not None
        assert cell.version == version
        assert isinstance((await other.beat([grant], [], within=5.0))[0], Held)
        cluster.move_slot(number, target)
        assert isinstance((await other.beat([grant], [], within=5.0))[0], Held)  # MOVED
        assert await other.release(grant) is True
        (word,) = await store.beat([], [ticket], within=5.0)
        assert isinstance(word, Grant)
        assert await store.release(word) is True
        # Pushes come from where the slot is now.
        held = await other.acquire(claim(name), queue=False)
        ticket = await store.acquire(claim(name, waiter_ttl=30.0), queue=True)
        assert isinstance(held, Grant)
        assert isinstance(ticket, Ticket)
        assert await other.release(held) is True
        assert isinstance(await handed(store, ticket), Grant)

    with RedisCluster(node_timeout=15.0) as cluster:
        face.run(work(cluster))


def test_a_node_that_dies_is_succeeded_by_its_replica(face: Face, namespace: str) -> None:
    async def work(cluster: RedisCluster) -> None:
        client, rival = (
            face.connect(cluster.url, namespace=namespace, ttl=30.0),
            face.connect(cluster.url, namespace=namespace, waiter_ttl=30.0),
        )
        (name,), (elsewhere,) = on_node(0), on_node(1)
        lease, other = await client.lock(name).acquire(), await client.lock(elsewhere).acquire()
        waiting = face.start(rival.lock(name).acquire(wait=60).__aenter__())

        async def in_line() -> bool:
            return len((await client.inspect(name)).waiters) == 1

        await face.eventually(in_line, what="in line")
        assert cluster.primaries[0].command("WAIT", 1, 10_000) == 1
        await face.call(cluster.primaries[0].kill)

        async def back() -> bool:
            try:
                return len((await client.inspect(name)).holders) == 1
            except StoreUnavailable:
                return False

        await face.eventually(back, within=PATIENCE, what="the replica answers")
        assert lease.held
        assert other.held
        assert await lease.release() is True
        got = await waiting.result(PATIENCE)
        assert got.token > lease.token
        assert await got.release() is True
        assert await other.release() is True

    with RedisCluster(replicas=1) as cluster:
        face.run(work(cluster))


def test_a_frozen_node_costs_the_others_nothing(face: Face, namespace: str) -> None:
    """Rule 2: its leases end by their deadlines, those on other nodes go on being renewed, requests fail in time."""

    async def work(cluster: RedisCluster) -> None:
        client = face.connect(f"{cluster.url}?timeout=1", namespace=namespace, ttl=3.0)
        (frozen,), (beside,) = on_node(0), on_node(1)
        lost, kept = await client.lock(frozen).acquire(), await client.lock(beside).acquire()
        await face.call(cluster.primaries[0].pause)
        try:
            assert await lost.lost.wait(PATIENCE) is True
            await face.sleep(3.0)
            assert kept.held
            with pytest.raises(StoreUnavailable):
                await client.lock(frozen).try_acquire()
            assert kept.held
        finally:
            await face.call(cluster.primaries[0].resume)
        assert await kept.release() is True

    with RedisCluster(node_timeout=60.0) as cluster:
        face.run(work(cluster))


def test_a_cell_is_guarded_from_another_node(
    face: Face, redis_cluster: RedisCluster, namespace: str, claim: Any
) -> None:
    """Between the check of the guard and the write nobody else gets the name, and afterwards the line moves on."""

    async def work() -> None:
        store, other = face.store(redis_cluster.url, namespace), face.store(redis_cluster.url, namespace)
        assert isinstance(store, RedisClusterStore)
        (name,), (cell,) = on_node(0), on_node(2)
        grant = await store.acquire(claim(name), queue=False)
        assert isinstance(grant, Grant)
        ticket = await other.acquire(claim(name, waiter_ttl=30.0), queue=True)
        assert isinstance(ticket, Ticket)
        async with store._pinned(cell, grant) as until:
            now = await store._soon(cell, store.runtime.clock.now() + 0.01)
            assert 0 < until - now < 10_500_000
            assert await other.evict(name, grant.token) is True
            assert (await other.inspect(name)).holders == []
            assert isinstance((await other.beat([], [ticket], within=5.0))[0], Waiting)
        assert isinstance(await handed(other, ticket), Grant)
        with pytest.raises(LeaseLost):
            await store.put(cell, b"stale", guard=grant)
        with pytest.raises(StoreUnavailable, match="not written in time"):
            await store._put(cell, b"late", ANY, None, None, until=now - 1_000_000)
        with pytest.raises(StoreUnavailable, match="not written in time"):
            await store._delete(cell, ANY, None, until=now - 1_000_000)
        assert await store.get(cell) is None

    face.run(work())


def test_two_guarded_writes_at_once_do_not_close_the_name(
    face: Face, redis_cluster: RedisCluster, namespace: str, claim: Any
) -> None:
    """The one that began last put back what the first one had made of it: closed for the rest of ten seconds."""

    async def work() -> None:
        store, other = face.store(redis_cluster.url, namespace), face.store(redis_cluster.url, namespace)
        assert isinstance(store, RedisClusterStore)
        (name,), (cell,) = on_node(0), on_node(2)
        for last_first in (False, True):
            grant = await store.acquire(claim(name), queue=False)
            assert isinstance(grant, Grant)
            writes = [store._pinned(cell, grant) for _ in range(3)]
            for write in writes:
                await write.__aenter__()
            if last_first:
                writes.reverse()
            for write in writes:
                assert (await store.inspect(name)).closed_for > 0
                await write.__aexit__(None, None, None)
            assert (await store.inspect(name)).closed_for == 0
            assert await store.release(grant) is True
            theirs = await other.acquire(claim(name), queue=False)
            assert isinstance(theirs, Grant)
            assert await other.release(theirs) is True

    face.run(work())


def test_a_guarded_write_that_was_never_finished_closes_the_name_no_longer(
    face: Face, redis_cluster: RedisCluster, namespace: str, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client has died; the writes of others count their own time alone."""
    monkeypatch.setattr("locksmith_redis.cluster_cells.PINNED", 0.5)

    async def work() -> None:
        store = face.store(redis_cluster.url, namespace)
        assert isinstance(store, RedisClusterStore)
        (name,), (cell,) = on_node(0), on_node(2)
        grant = await store.acquire(claim(name), queue=False)
        assert isinstance(grant, Grant)
        died = store._pinned(cell, grant)
        await died.__aenter__()
        until = time.monotonic() + PATIENCE
        while (await store.inspect(name)).closed_for:
            assert time.monotonic() < until
        monkeypatch.setattr("locksmith_redis.cluster_cells.PINNED", 30.0)
        async with store._pinned(cell, grant):
            await died.__aexit__(None, None, None)  # late, and not the end of the other one
            assert (await store.inspect(name)).closed_for > 0
        assert (await store.inspect(name)).closed_for == 0

    face.run(work())


def test_lock_delay_is_as_it_was_after_a_guarded_write(
    face: Face, redis_cluster: RedisCluster, namespace: str, claim: Any
) -> None:
    async def work() -> None:
        store = face.store(redis_cluster.url, namespace)
        (name,), (cell,) = on_node(0), on_node(2)
        grant = await store.acquire(claim(name, lock_delay=60.0), queue=False)
        assert isinstance(grant, Grant)
        assert await store.put(cell, b"x", guard=grant) > 0
        assert (await store.inspect(name)).closed_for == 0
        assert await store.evict(name, grant.token) is True
        assert (await store.inspect(name)).closed_for > 50

    face.run(work())


def test_the_drivers_own_client(face: Face, redis_cluster: RedisCluster, namespace: str) -> None:
    node = redis_cluster.primaries[0]

    async def work() -> None:
        if face.name == "asyncio":
            client: Any = redis.asyncio.RedisCluster(host=node.host, port=node.port)
        else:
            client = theirs.RedisCluster(host=node.host, port=node.port)
        ours = face.connect(client, namespace=namespace)
        assert ours.address.startswith("redis+cluster://")
        rival = face.connect(redis_cluster.url, namespace=namespace)
        for name in ("a", "b", "c", "d"):
            async with ours.lock(name).acquire():
                assert await rival.lock(name).try_acquire() is None
        await ours.close()
        if face.name == "asyncio":
            assert await client.get(namespace) is None
            await client.aclose()
        else:
            assert client.get(namespace) is None
            client.close()

    face.run(work())


def test_a_client_of_the_other_colour() -> None:
    client = redis.asyncio.RedisCluster(host="127.0.0.1", port=1)
    with pytest.raises(ConfigurationError):
        RedisClusterStore.from_client(client, runtime=Blocking(), namespace="n")


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://a/1",
        "redis+cluster://a?db=2",
        "redis+cluster://a,a",
        "redis+cluster://a?x=1",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ConfigurationError):
        RedisClusterStore.from_url(url, runtime=Blocking(), namespace="n")


def test_nobody_answers(face: Face, namespace: str) -> None:
    async def work() -> None:
        client = face.connect("redis+cluster://127.0.0.1:1,127.0.0.1:2", namespace=namespace)
        with pytest.raises(StoreUnavailable):
            await client.lock("n").acquire(wait=5)

    face.run(work())


def test_a_server_that_is_no_cluster_and_a_cluster_taken_for_a_server(
    face: Face, redis_server: Any, redis_cluster: RedisCluster, namespace: str
) -> None:
    async def work() -> None:
        with pytest.raises(StoreProtocolError):
            await (
                face.connect(f"redis+cluster://127.0.0.1:{redis_server.port}", namespace=namespace).lock("n").acquire()
            )
        client = face.connect(f"redis://127.0.0.1:{redis_cluster.primaries[0].port}/0", namespace=namespace)
        (elsewhere,) = on_node(1)
        with pytest.raises(StoreProtocolError, match=r"redis\+cluster://"):
            await client.lock(elsewhere).acquire()

    face.run(work())


def test_the_doctor(face: Face, redis_cluster: RedisCluster, namespace: str) -> None:
    async def work() -> None:
        findings = await face.connect(redis_cluster.url, namespace=namespace).diagnose()
        text = "\n".join(f"{finding.level}: {finding.what}" for finding in findings)
        assert "ok: every slot is served" in text
        assert text.count("no replica") == 3
        assert "ok: a name can be taken" in text
        assert "error" not in text

    face.run(work())
