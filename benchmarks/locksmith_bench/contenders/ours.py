"""locksmith as a contender, in both runtimes: what a user writes, and nothing that a user would not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import locksmith
import locksmith.aio
from locksmith.store import Guarantee
from locksmith_bench.contenders.base import (
    OURS,
    AsyncContender,
    AsyncPair,
    BlockingContender,
    Contender,
    Pair,
    Rival,
    Take,
)


def blocking(url: str) -> BlockingContender:
    """`lock.acquire().release()`."""
    return Contender(OURS, _promises(url), _pair)


def aio(url: str) -> AsyncContender:
    """The same, awaited."""
    return Contender(OURS, _promises(url), _async_pair)


def _promises(url: str) -> str:
    with locksmith.connect(url) as client:
        flags = [
            str(flag.name).lower()
            for flag in client.guarantees
            if flag in Guarantee.FENCED | Guarantee.FIFO | Guarantee.PUSH
        ]
    return ", ".join(["exclusion, renewal, loss told", *flags])


@contextmanager
def _pair(url: str, name: str) -> Iterator[Pair]:
    with locksmith.connect(url) as client:
        lock = client.lock(name)

        def pair() -> None:
            lock.acquire().release()

        yield pair


@asynccontextmanager
async def _async_pair(url: str, name: str) -> AsyncIterator[AsyncPair]:
    async with locksmith.aio.connect(url) as client:
        lock = client.lock(name)

        async def pair() -> None:
            await (await lock.acquire()).release()

        yield pair


def decision() -> BlockingContender:
    """`limit.try_take()`, always allowed."""
    return Contender(OURS, "never more than the limit, by the store's clock", _decision)


@contextmanager
def _decision(url: str, name: str) -> Iterator[Pair]:
    with locksmith.connect(url) as client:
        limit = client.rate_limit(name, "1000000/s")

        def decide() -> None:
            assert limit.try_take()

        yield decide


def duplicate() -> BlockingContender:
    """`task.delay(...)` of a Celery Singleton task of which an equal call is queued."""
    return Contender(OURS, "folded into the queued call, with its AsyncResult", _duplicate)


@contextmanager
def _duplicate(url: str, name: str) -> Iterator[Pair]:
    from celery import Celery

    from locksmith.celery import Singleton, install

    with locksmith.connect(url) as client:
        app = Celery(name, broker="memory://", backend=url, set_as_current=False)
        install(app, client=client)
        task = app.task(base=Singleton, shared=False, name=name, singleton_queue_ttl=600)(_report)
        first = task.delay(7, kind="daily").id

        def delay() -> None:
            assert task.delay(7, kind="daily").id == first

        try:
            yield delay
        finally:
            app.close()


def _report(user_id: int, kind: str = "weekly") -> None: ...


@contextmanager
def _take(url: str, name: str) -> Iterator[Take]:
    with locksmith.connect(url) as client:
        lock = client.lock(name)
        yield lambda: lock.acquire().release


RIVAL: Final[dict[str, Rival]] = {OURS: _take}
"""For contended runs."""
