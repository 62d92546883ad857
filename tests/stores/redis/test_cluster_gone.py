"""What a client of a cluster lets go of: nodes that have left, and subscriptions of slots that have moved."""

from __future__ import annotations

import time
from typing import Any

import pytest
from testkit.slots import on_node, slot

from locksmith import names
from locksmith.store import Grant, Ticket
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.servers import RedisCluster
from locksmith_redis import RedisClusterStore

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Any:
    return FACES[request.param]()


async def told(store: Any, ticket: Any) -> Any:
    """The push alone: nothing is asked."""
    until = time.monotonic() + 40.0
    while ticket.inbox.peek() is None:
        assert time.monotonic() < until
        await store.wait(ticket, 1.0)
    store.leave(ticket)
    return ticket.inbox.peek()


def test_nodes_that_serve_nothing_are_forgotten(face: Face, redis_cluster: RedisCluster, namespace: str) -> None:
    """Nodes that have left were asked for the table of slots first, and each cost half of the time there is."""

    async def work() -> None:
        store = face.store(redis_cluster.url, namespace)
        assert isinstance(store, RedisClusterStore)
        nodes = store._nodes
        nodes._node(("127.0.0.1", 1))  # the table named it once
        assert await store.get("c") is None
        assert {node.place for node in nodes.open} == {node.place for node in await nodes.primaries()}

    face.run(work())


def test_hubs_that_nobody_is_led_to_any_more_are_ended(
    face: Face, redis_cluster: RedisCluster, namespace: str, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each slot that moved, and each node that left, left a connection and a pipe for as long as the client."""
    monkeypatch.setattr("locksmith_redis.cluster.KEPT", -60.0)

    async def work() -> None:
        store, other = face.store(redis_cluster.url, namespace), face.store(redis_cluster.url, namespace)
        assert isinstance(store, RedisClusterStore)
        here, *others = on_node(0, 4)
        held = await other.acquire(claim(here), queue=False)
        assert isinstance(held, Grant)
        ticket = await store.acquire(claim(here, waiter_ttl=30.0), queue=True)
        assert isinstance(ticket, Ticket)
        first = ticket.state
        elsewhere = await store._nodes.owner(slot(on_node(2)[0]))
        for name in others:
            (known, _), *_ = store._hubs.values()
            store._nodes._owners[known] = elsewhere  # the slot of the channel moves away
            hub = await store._hub_of(names.encode(name).encode())
            assert store._every_hub == [hub, first]
        assert await other.release(held) is True
        assert isinstance(await told(store, ticket), Grant)
        await store._retire()
        assert store._every_hub == [hub]

    face.run(work())
