"""The same on an event loop: one task, one free lock, against the floor of the asyncio driver."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import locksmith.aio
from locksmith.runtime_asyncio import Asyncio
from locksmith_bench.contenders import COMPARE_AND_DELETE, AsyncPair, Contender, of
from locksmith_bench.uncontended import PairCost, judge

Open = Callable[[str, str], AbstractAsyncContextManager[AsyncPair]]


@asynccontextmanager
async def _locksmith(url: str, name: str) -> AsyncIterator[AsyncPair]:
    async with locksmith.aio.connect(url) as client:
        lock = client.lock(name)

        async def pair() -> None:
            await (await lock.acquire()).release()

        yield pair


@asynccontextmanager
async def _redis_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
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


@asynccontextmanager
async def _sqlite_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
    # SQLite has no asyncio driver: each of the two statements goes through the same kind of thread as locksmith's.
    from sqlalchemy import create_engine

    from locksmith_bench.contenders import GIVE, TAKE, prepare

    runtime = Asyncio()
    engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"check_same_thread": False})
    with engine.connect() as connection:
        run = connection.exec_driver_sql
        prepare(run, name)

        async def pair() -> None:
            owner = os.urandom(16).hex()
            assert await runtime.call(lambda: run(TAKE, (owner, 30.0, name, 0.0)).rowcount) == 1
            assert await runtime.call(lambda: run(GIVE, (name, owner)).rowcount) == 1

        yield pair
    engine.dispose()
    runtime.reset()


def measure(url: str, rounds: int, pairs: int) -> list[PairCost]:
    """As `uncontended.measure`, on an event loop."""
    return asyncio.run(_measure(url, rounds, pairs))


async def _measure(url: str, rounds: int, pairs: int) -> list[PairCost]:
    contenders = [contender for contender in of(url) if contender.is_floor or contender.name == "locksmith"]
    laps: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    async with AsyncExitStack() as stack:
        running = [
            (contender, await stack.enter_async_context(_opener(contender, url)(url, f"bench-{secrets.token_hex(6)}")))
            for contender in contenders
        ]
        for _, pair in running:
            await _lap(pair, max(20, pairs // 10))
        for _ in range(rounds):
            for contender, pair in running:
                laps[contender.name].append(await _lap(pair, pairs))
    return judge(contenders, laps, "asyncio")


def _opener(contender: Contender, url: str) -> Open:
    if contender.name == "locksmith":
        return _locksmith
    return _sqlite_floor if url.startswith("sqlite") else _redis_floor


async def _lap(pair: AsyncPair, pairs: int) -> list[float]:
    clock = time.perf_counter
    taken = []
    for _ in range(pairs):
        began = clock()
        await pair()
        taken.append(clock() - began)
    return taken
