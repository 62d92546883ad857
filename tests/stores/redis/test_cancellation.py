"""Cancellations that the driver swallows while it connects."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

import locksmith
from locksmith.testing.servers import RedisServer

pytestmark = pytest.mark.redis


@pytest.mark.native_threads
@pytest.mark.parametrize("connection", [1, 2], ids=["request", "pushes"])
def test_a_cancellation_that_the_driver_swallows_is_heeded(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch, connection: int
) -> None:
    """Until Python 3.12 asyncio.wait_for drops one that arrives as what it waits for ends; the driver sends with it."""
    connect = AbstractConnection.connect
    count = 0

    async def swallowing(self: Any) -> None:
        nonlocal count
        await connect(self)
        count += 1
        if count == connection:
            try:
                waiting.cancel()
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                pass

    async def main() -> None:
        nonlocal waiting
        async with (
            locksmith.aio.connect(redis_server.url, namespace=namespace) as rival,
            locksmith.aio.connect(redis_server.url, namespace=namespace) as client,
        ):
            async with rival.lock("n").acquire():
                monkeypatch.setattr(AbstractConnection, "connect", swallowing)
                waiting = asyncio.ensure_future(client.lock("n").acquire().__aenter__())
                done, _ = await asyncio.wait([waiting], timeout=5)
                assert done, "it went on waiting"
                assert waiting.cancelled()
                monkeypatch.undo()
            for _ in range(500):
                if not (await rival.inspect("n")).waiters:
                    break
                await asyncio.sleep(0.005)
            async with rival.lock("n").acquire(wait=0):
                pass

    waiting: Any = None
    asyncio.run(main())
