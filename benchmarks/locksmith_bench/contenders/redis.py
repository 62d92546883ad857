"""Redis: SET NX PX with compare-and-delete as the floor, and redis-py's own Lock."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast

from locksmith_bench.contenders.base import (
    AsyncPair,
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
    """The floor and redis-py's Lock, where there is one server that both can be sent to."""
    if url.partition("://")[0] not in ("redis", "rediss", "redis+unix"):
        return Lineup()
    name, promises = "floor: SET NX + compare-and-delete", "exclusion only"
    return Lineup(
        blocking=[
            Contender(name, promises, _floor, is_floor=True),
            Contender("redis-py Lock", "exclusion, no queue, no fencing, no renewal", _redis_py_pair),
        ],
        aio=[Contender(name, promises, _async_floor, is_floor=True)],
        rivals={"redis-py Lock": _redis_py},
        counter=_counter,
        goal=Goal(pair=1.25),
    )


def _client(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url.replace("redis+unix://", "unix://"))


@contextmanager
def _floor(url: str, name: str) -> Iterator[Pair]:
    client = _client(url)
    sha = client.script_load(COMPARE_AND_DELETE)
    connection = client.connection_pool.make_connection()
    connection.connect()

    def call(*arguments: object) -> object:
        connection.send_packed_command(connection.pack_command(*arguments))
        return connection.read_response()

    def pair() -> None:
        owner = os.urandom(16).hex()
        assert call("SET", name, owner, "NX", "PX", 30_000)
        assert call("EVALSHA", sha, 1, name, owner)

    try:
        yield pair
    finally:
        connection.disconnect()
        client.close()


@asynccontextmanager
async def _async_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
    import redis.asyncio as redis

    client = redis.Redis.from_url(url.replace("redis+unix://", "unix://"))
    sha = await client.script_load(COMPARE_AND_DELETE)
    pool: Any = client.connection_pool
    connection = pool.make_connection()
    await connection.connect()

    async def call(*arguments: object) -> object:
        await connection.send_command(*arguments)
        return await connection.read_response()

    async def pair() -> None:
        owner = os.urandom(16).hex()
        assert await call("SET", name, owner, "NX", "PX", 30_000)
        assert await call("EVALSHA", sha, 1, name, owner)

    try:
        yield pair
    finally:
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
