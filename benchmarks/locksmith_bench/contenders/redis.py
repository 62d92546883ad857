"""Redis: SET NX PX with compare-and-delete as the floor, and redis-py's own Lock."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit

from locksmith_bench.contenders.base import (
    AsyncContender,
    AsyncPair,
    BlockingContender,
    Contender,
    Counter,
    Give,
    Goal,
    Lineup,
    Pair,
    Take,
)

COMPARE_AND_DELETE: Final = (
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
)
"""The safe way to give back a SET NX PX: only one's own."""


def lineup(url: str) -> Lineup:
    """The floor and redis-py's Lock; with a quorum the floor asks all of its servers at once, and has no goal."""
    name, promises = "floor: SET NX + compare-and-delete", "exclusion only"
    floor: BlockingContender = Contender(name, promises, _floor, is_floor=True)
    async_floor: AsyncContender = Contender(name, promises, _async_floor, is_floor=True)
    kind = url.partition("://")[0]
    if kind == "redis+quorum":
        return Lineup(blocking=[floor], aio=[async_floor], goal=Goal(jain=None))
    if kind in ("redis+sentinel", "redis+cluster"):
        return Lineup(blocking=[floor], aio=[async_floor], goal=Goal(pair=1.25))
    if kind not in ("redis", "rediss", "redis+unix"):
        return Lineup()
    return Lineup(
        blocking=[floor, Contender("redis-py Lock", "exclusion, no queue, no fencing, no renewal", _redis_py_pair)],
        aio=[async_floor],
        rivals={"redis-py Lock": _redis_py},
        call=Contender("floor: SET PX", "nothing", _call, is_floor=True),
        read=Contender("floor: redis-py get", "nothing", _read, is_floor=True),
        counter=_counter,
        goal=Goal(pair=1.25),
    )


def _client(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url.replace("redis+unix://", "unix://"))


def _module(name: str) -> Any:
    """A part of redis-py that is only partly typed."""
    return importlib.import_module(name)


def _servers(url: str, name: str) -> list[str]:
    """The URLs of the servers that a request about this name goes to: one, or with a quorum all."""
    kind = url.partition("://")[0]
    parts = urlsplit(url)
    who, _, where = parts.netloc.rpartition("@")
    hosts = where.split(",")
    if kind == "redis+sentinel":
        sentinels = [(host.partition(":")[0], int(host.partition(":")[2] or 26379)) for host in hosts]
        host, port = _module("redis.sentinel").Sentinel(sentinels).discover_master(parts.path.strip("/"))
        hosts = [f"{host}:{port}"]
    elif kind == "redis+cluster":
        first = f"redis://{who}@{hosts[0]}" if who else f"redis://{hosts[0]}"
        cluster = _module("redis.cluster").RedisCluster.from_url(first)
        node = cluster.get_node_from_key(name)
        cluster.close()
        hosts = [f"{node.host}:{node.port}"]
    elif kind != "redis+quorum":
        return [url]
    return [f"redis://{who}@{host}" if who else f"redis://{host}" for host in hosts]


@contextmanager
def _floor(url: str, name: str) -> Iterator[Pair]:
    clients = [_client(server) for server in _servers(url, name)]
    (sha, *_) = [client.script_load(COMPARE_AND_DELETE) for client in clients]
    connections = [client.connection_pool.make_connection() for client in clients]
    for connection in connections:
        connection.connect()

    def call(*arguments: object) -> bool:
        for connection in connections:
            connection.send_packed_command(connection.pack_command(*arguments))
        replies = [connection.read_response() for connection in connections]
        return all(replies)

    def pair() -> None:
        owner = os.urandom(16).hex()
        assert call("SET", name, owner, "NX", "PX", 30_000)
        assert call("EVALSHA", sha, 1, name, owner)

    try:
        yield pair
    finally:
        for client, connection in zip(clients, connections, strict=True):
            connection.disconnect()
            client.close()


@contextmanager
def _call(url: str, name: str) -> Iterator[Pair]:
    client = _client(url)
    connection = client.connection_pool.make_connection()

    def call() -> None:
        connection.send_packed_command(connection.pack_command("SET", name, "x" * 24, "PX", 30_000))
        assert connection.read_response()

    try:
        connection.connect()
        yield call
    finally:
        connection.disconnect()
        client.close()


@contextmanager
def _read(url: str, name: str) -> Iterator[Pair]:
    client = _client(url)
    client.set(name, "x" * 160, px=600_000)

    def read() -> None:
        assert client.get(name)

    try:
        yield read
    finally:
        client.delete(name)
        client.close()


@asynccontextmanager
async def _async_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
    import redis.asyncio as redis

    clients = [redis.Redis.from_url(one.replace("redis+unix://", "unix://")) for one in _servers(url, name)]
    (sha, *_) = [await client.script_load(COMPARE_AND_DELETE) for client in clients]
    connections = [cast(Any, client.connection_pool).make_connection() for client in clients]
    for connection in connections:
        await connection.connect()

    async def call(*arguments: object) -> bool:
        for connection in connections:
            await connection.send_command(*arguments)
        replies = [await connection.read_response() for connection in connections]
        return all(replies)

    async def pair() -> None:
        owner = os.urandom(16).hex()
        assert await call("SET", name, owner, "NX", "PX", 30_000)
        assert await call("EVALSHA", sha, 1, name, owner)

    try:
        yield pair
    finally:
        for client, connection in zip(clients, connections, strict=True):
            await connection.disconnect()
            await client.aclose()


@contextmanager
def _redis_py(url: str, name: str) -> Iterator[Take]:
    client = _client(url)

    def take() -> Give:
        lock = client.lock(name, timeout=30)
        lock.acquire()
        return cast(Give, lock.release)

    try:
        yield take
    finally:
        client.close()


@contextmanager
def _redis_py_pair(url: str, name: str) -> Iterator[Pair]:
    with _redis_py(url, name) as take:
        yield lambda: cast(None, take()())


def _counter(url: str) -> Counter:
    client = _client(url)

    def ask() -> tuple[int, int]:
        stats = client.info("commandstats")
        calls = sum(stats.get(f"cmdstat_{command}", {}).get("calls", 0) for command in ("evalsha", "eval"))
        return calls, int(client.info("clients")["connected_clients"]) - 1

    return ask
