"""ZooKeeper: create and delete through kazoo as the floor, and kazoo's Lock."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit

from locksmith_bench.contenders.base import AsyncPair, Contender, Give, Goal, Lineup, Pair, Take

LOCK: Final = "kazoo Lock"
_FOLDER: Final = "/locksmith-bench"


def lineup(url: str) -> Lineup:
    """The floor makes a node that vanishes with its session and deletes it, both through kazoo's public methods."""
    del url
    name, promises = "floor: create + delete", "exclusion only"
    return Lineup(
        blocking=[
            Contender(name, promises, _floor, is_floor=True),
            Contender(LOCK, "exclusion, FIFO, no fencing; believed in after the session's end", _kazoo_pair),
        ],
        aio=[Contender(name, promises, _async_floor, is_floor=True)],
        rivals={LOCK: _kazoo},
        goal=Goal(pair=1.35, handoff=1.0, reference=LOCK),
    )


@contextmanager
def _client(url: str) -> Iterator[Any]:
    from kazoo.client import KazooClient

    client = KazooClient(hosts=urlsplit(url).netloc.rpartition("@")[2], timeout=30.0)
    client.start()
    client.ensure_path(_FOLDER)
    try:
        yield client
    finally:
        client.stop()
        client.close()


@contextmanager
def _floor(url: str, name: str) -> Iterator[Pair]:
    with _client(url) as client:
        path = f"{_FOLDER}/{name}"

        def pair() -> None:
            client.create(path, secrets.token_bytes(16), ephemeral=True)
            client.delete(path)

        yield pair


@asynccontextmanager
async def _async_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
    loop = asyncio.get_running_loop()

    async def answer(ask: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        """Kazoo's own way to be told: a callback, which here wakes the loop."""
        future: asyncio.Future[Any] = loop.create_future()
        reply = ask(*arguments, **settings)
        reply.rawlink(lambda _: loop.call_soon_threadsafe(future.set_result, None))
        await future
        return reply.get()

    with _client(url) as client:
        path = f"{_FOLDER}/{name}"

        async def pair() -> None:
            await answer(client.create_async, path, secrets.token_bytes(16), ephemeral=True)
            await answer(client.delete_async, path)

        yield pair


@contextmanager
def _kazoo(url: str, name: str) -> Iterator[Take]:
    with _client(url) as client:

        def take() -> Give:
            lock = client.Lock(f"{_FOLDER}/lock-{name}")
            lock.acquire()
            return cast(Give, lock.release)

        yield take


@contextmanager
def _kazoo_pair(url: str, name: str) -> Iterator[Pair]:
    with _kazoo(url, name) as take:
        yield lambda: cast(None, take()())
