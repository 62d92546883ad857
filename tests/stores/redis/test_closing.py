"""A client that is closed, or a task that is cancelled, while a connection opens: it is not left open for ever."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import redis.asyncio.connection
import redis.connection

import locksmith
from locksmith.errors import ClientClosed
from locksmith.runtime import drive
from locksmith.store import Grant
from locksmith.testing import eventually
from locksmith.testing.servers import RedisCluster, RedisServer
from locksmith_redis.cluster import RedisClusterStore
from locksmith_redis.hub import Hub
from locksmith_redis.hub_async import AsyncHub
from locksmith_redis.scripts import request

pytestmark = pytest.mark.redis


@pytest.fixture(params=["redis_server", "redis_sentinels", "redis_cluster", "redis_nodes"])
def url(request: pytest.FixtureRequest) -> str:
    """Each of the stores. Sentinels' grants wait for the replica."""
    servers: Any = request.getfixturevalue(request.param)
    return str(
        servers.url_for(wait_replicas=1, wait_timeout=4.0) if request.param == "redis_sentinels" else servers.url
    )


class Gate:
    """Holds the connection of this number, once it is connected, until it is told to go on."""

    def __init__(self, number: int, event: Any) -> None:
        self.number = number
        self.made: list[Any] = []
        self.reached = event()
        """The connection is held, or there were fewer of them: the client waits in line."""
        self.opened = event()

    def passes(self, connection: Any) -> bool:
        self.made.append(connection)
        if len(self.made) != self.number:
            return True
        self.reached.set()
        return False

    @property
    def unused(self) -> bool:
        return len(self.made) < self.number


class AsyncGate(Gate):
    def __init__(self, number: int, patch: pytest.MonkeyPatch, *, swallows: bool) -> None:
        super().__init__(number, asyncio.Event)
        connection_class = redis.asyncio.connection.AbstractConnection
        connect: Any = connection_class.connect
        wait = AsyncHub.wait

        async def connect_and_stay(connection: Any) -> None:
            await connect(connection)
            if not self.passes(connection):
                try:
                    await self.opened.wait()
                except asyncio.CancelledError:
                    if not swallows:
                        raise

        async def tell_and_wait(hub: Any, *args: Any) -> None:
            self.reached.set()
            await wait(hub, *args)

        patch.setattr(connection_class, "connect", connect_and_stay)
        patch.setattr(AsyncHub, "wait", tell_and_wait)

    def left_open(self) -> list[Any]:
        return [connection for connection in self.made if connection.is_connected]


class BlockingGate(Gate):
    def __init__(self, number: int, patch: pytest.MonkeyPatch) -> None:
        super().__init__(number, threading.Event)
        connection_class = redis.connection.AbstractConnection
        connect: Any = connection_class.connect
        wait = Hub.wait

        def connect_and_stay(connection: Any) -> None:
            connect(connection)
            if not self.passes(connection):
                self.opened.wait(60)

        async def tell_and_wait(hub: Any, *args: Any) -> None:
            self.reached.set()
            await wait(hub, *args)

        patch.setattr(connection_class, "connect", connect_and_stay)
        patch.setattr(Hub, "wait", tell_and_wait)

    def left_open(self) -> list[Any]:
        return [connection for connection in self.made if connection._sock is not None]


@pytest.mark.native_threads
@pytest.mark.parametrize("how", ["closed", "cancelled", "cancelled-in-vain"])
def test_no_connection_of_a_task_is_left(url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Whichever connection of an acquisition is about to open. A cancellation may be swallowed by the driver."""

    async def acquire(client: Any) -> None:
        await client.lock("n").acquire()

    async def at(number: int, patch: pytest.MonkeyPatch) -> bool:
        gate = AsyncGate(number, patch, swallows=how == "cancelled-in-vain")
        async with locksmith.aio.connect(url, namespace=namespace) as client:
            waiting = asyncio.create_task(acquire(client))
            await gate.reached.wait()
            if how == "closed":
                await client.close()
            else:
                waiting.cancel()
                await asyncio.sleep(0)
            gate.opened.set()
            with pytest.raises((ClientClosed, asyncio.CancelledError)):
                await waiting
        assert not gate.left_open(), f"connection {number}"
        return not gate.unused

    async def main() -> int:
        number = 1
        async with locksmith.aio.connect(url, namespace=namespace) as rival, rival.lock("n").acquire():
            while await once(number):
                number += 1
        return number

    async def once(number: int) -> bool:
        with monkeypatch.context() as patch:
            return await at(number, patch)

    assert asyncio.run(main()) > 2, "a request, and a subscription"


@pytest.mark.native_threads
def test_no_connection_of_a_thread_is_left(url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without a loop: whichever connection is about to open while another thread closes the client."""

    def at(number: int, patch: pytest.MonkeyPatch) -> bool:
        gate = BlockingGate(number, patch)
        errors: list[BaseException] = []

        def acquire() -> None:
            try:
                client.lock("n").acquire()
            except BaseException as error:
                errors.append(error)

        with locksmith.connect(url, namespace=namespace) as client:
            waiting = threading.Thread(target=acquire, daemon=True)
            waiting.start()
            assert gate.reached.wait(60)
            client.close()
            gate.opened.set()
            waiting.join(60)
        assert [type(error) for error in errors] == [ClientClosed]
        eventually(lambda: not gate.left_open())
        return not gate.unused

    def once(number: int) -> bool:
        with monkeypatch.context() as patch:
            return at(number, patch)

    number = 1
    with locksmith.connect(url, namespace=namespace) as rival, rival.lock("n").acquire():
        while once(number):
            number += 1
    assert number > 2, "a request, and a subscription"


def test_a_closed_cluster_is_not_asked(face: Any, redis_cluster: RedisCluster, namespace: str, claim: Any) -> None:
    """Its nodes and its subscriptions are found one by one: what is found after closing must not be opened."""

    async def unused() -> None:
        store = RedisClusterStore.from_url(redis_cluster.url, runtime=face.runtime(), namespace=namespace)
        await store.close()
        with pytest.raises(ClientClosed):
            await store.acquire(claim(), queue=False)

    async def used() -> None:
        store = RedisClusterStore.from_url(redis_cluster.url, runtime=face.runtime(), namespace=namespace)
        assert isinstance(grant := await store.acquire(claim(), queue=False), Grant)
        assert await store.release(grant)
        await store.close()
        hub = await store._hub_of(b"n")
        with pytest.raises(ClientClosed):
            await hub.start()

    face.run(unused())
    face.run(used())


def test_a_retired_link_keeps_nothing(face: Any, redis_server: RedisServer, namespace: str, claim: Any) -> None:
    """Of a node that left the cluster while it was asked: the answer counts, the connection goes."""

    async def work() -> None:
        store = face.store(redis_server.url, namespace)
        assert await store.acquire(claim(), queue=False)
        link, settle = store._link, store.runtime.settle
        wire = link._idle.pop()  # somebody asks
        await settle(link.retire())
        await settle(link._keep(wire))
        connection = wire.connection
        assert not link._idle
        assert (connection._writer if store.runtime.is_async else connection._sock) is None
        assert (await settle(link.ask(request(b"PING"))))[0] == b"PONG"
        assert not link._idle

    face.run(work())


def test_threads_that_come_together_share_a_subscription(
    blocking: Any, redis_cluster: RedisCluster, namespace: str
) -> None:
    """Of two made for one node, one would be forgotten, and closing would not find it."""

    async def work() -> None:
        store = RedisClusterStore.from_url(redis_cluster.url, runtime=blocking.runtime(), namespace=namespace)
        make, others = store._make_hub, []

        def make_slowly(*args: Any) -> Any:
            store._make_hub = make
            others.append(drive(store._hub_of(b"n")))  # another thread
            return make(*args)

        store._make_hub = make_slowly
        assert [await store._hub_of(b"n")] == others
        await store.close()

    drive(work())
