"""The same on an event loop: one task, one free lock, against the floor of the asyncio driver."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from locksmith_bench.contenders.base import AsyncContender, AsyncPair
from locksmith_bench.uncontended import PairCost, judge


def measure(url: str, contenders: Sequence[AsyncContender], rounds: int, pairs: int) -> list[PairCost]:
    """As `uncontended.measure`, on an event loop."""
    return asyncio.run(_measure(url, contenders, rounds, pairs))


async def _measure(url: str, contenders: Sequence[AsyncContender], rounds: int, pairs: int) -> list[PairCost]:
    laps: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    async with AsyncExitStack() as stack:
        running = [
            (contender, await stack.enter_async_context(contender.pair(url, f"bench-{secrets.token_hex(6)}")))
            for contender in contenders
        ]
        for _, pair in running:
            await _lap(pair, max(20, pairs // 10))
        for _ in range(rounds):
            for contender, pair in running:
                laps[contender.name].append(await _lap(pair, pairs))
    return judge(contenders, laps, "asyncio")


async def _lap(pair: AsyncPair, pairs: int) -> list[float]:
    clock = time.perf_counter
    taken = []
    for _ in range(pairs):
        began = clock()
        await pair()
        taken.append(clock() - began)
    return taken
