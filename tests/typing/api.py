"""What type checkers see of the public API. Never run: mypy and basedpyright read it, both as strictly as they can."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import locksmith
from locksmith import SKIPPED, aio, run_once
from locksmith.adapters.skipped import Skipped
from locksmith.store import Finding, HolderView

# ------------------------------------------------------------------------------------- the blocking face


def blocking() -> None:
    client = locksmith.connect("memory://", ttl=10, require=locksmith.Guarantee.FIFO, namespace="app")
    assert_type(client, locksmith.Client)
    with client, locksmith.connect("memory://", require="fenced") as other:
        assert_type(other, locksmith.Client)
    lock = client.lock("reports:daily", ttl=30)
    assert_type(lock, locksmith.Lock)
    with lock.acquire(wait=5, note="nightly", max_hold=60) as lease:
        assert_type(lease, locksmith.Lease)
        assert_type(lease.token, int)
        assert_type(lease.ttl, float)
        assert_type(lease.held, bool)
        assert_type(lease.name, str)
        assert_type(lease.remaining(), float)
        lease.check()
        assert_type(lease.lost.wait(1), bool)
        assert_type(lease.release(), bool)
    assert_type(lock.try_acquire(), locksmith.Lease | None)
    semaphore = client.semaphore("gpu", limit=4)
    assert_type(semaphore, locksmith.Semaphore)
    assert_type(semaphore.acquire(permits=2), locksmith.Lease)
    both = client.rwlock("catalog")
    assert_type(both, locksmith.RWLock)
    assert_type(both.read().try_acquire(), locksmith.Lease | None)
    assert_type(both.write().acquire(wait=None), locksmith.Lease)
    assert_type(client.inspect("gpu").holders, list[HolderView])
    assert_type(client.names("g"), Iterator[str])
    assert_type(client.evict("gpu", 7), bool)
    assert_type(client.diagnose(), list[Finding])
    assert_type(client.guarantees, locksmith.Guarantee)
    client.close()


def callbacks(lease: locksmith.Lease) -> None:
    @lease.on_lost
    def stop() -> None: ...

    @lease.on_suspect
    def slow_down() -> None: ...

    stop()
    slow_down()


def errors() -> None:
    try:
        locksmith.connect("memory://").lock("x").acquire(wait=0)
    except TimeoutError as timeout:
        assert_type(timeout, TimeoutError)
    except locksmith.AlreadyRunning as running:
        assert_type(running.holder, str | None)
        assert_type(running.since, float | None)
    except ConnectionError:
        pass
    except locksmith.LocksmithError:
        pass


# ------------------------------------------------------------------------------------- the asyncio face


async def asynchronous() -> None:
    async with locksmith.aio.connect("memory://") as client:
        assert_type(client, aio.AsyncClient)
        lock = client.lock("x", ttl=30)
        assert_type(lock, aio.AsyncLock)
        async with lock.acquire(wait=5, cancel_on_loss=True) as lease:
            assert_type(lease, aio.AsyncLease)
            assert_type(lease.token, int)
            lease.check()
        again = await lock.acquire()
        assert_type(again, aio.AsyncLease)
        assert_type(await again.lost.wait(1), bool)
        assert_type(await again.release(), bool)
        assert_type(await lock.try_acquire(), aio.AsyncLease | None)
        assert_type(await client.semaphore("gpu", limit=4).acquire(permits=2), aio.AsyncLease)
        assert_type(await client.rwlock("catalog").read().acquire(), aio.AsyncLease)
        assert_type(client.names(), AsyncIterator[str])
        assert_type(await client.evict("gpu", 7), bool)


# ------------------------------------------------------------------------------------- run_once


class Item:
    id: int = 0


@run_once
def bare(item: Item) -> int:
    return item.id


@run_once("process_item:{item.id}", ttl=30)
def templated(item: Item, *, force: bool = False) -> int:
    return item.id + force


@run_once(on_conflict="raise")
def raising(item: Item) -> int:
    return item.id


@run_once(on_conflict="wait")
def waiting(item: Item) -> int:
    return item.id


@run_once(once_per=3600, default=None)
def defaulted(item: Item) -> int:
    return item.id


@run_once(on_conflict="join", unique_on=["item"])
async def joined(item: Item) -> int:
    return item.id


@run_once
async def coroutine(item: Item) -> int:
    return item.id


@run_once
def generator(item: Item) -> Iterator[int]:
    yield item.id


@run_once("numbers:{item.id}")
async def async_generator(item: Item) -> AsyncIterator[int]:
    yield item.id


class Service:
    @run_once("service:{item.id}")
    def method(self, item: Item) -> str:
        return str(item.id)


def functions(item: Item, service: Service) -> None:
    assert_type(bare(item), int | Skipped)
    assert_type(templated(item, force=True), int | Skipped)
    assert_type(raising(item), int)
    assert_type(waiting(item), int)
    assert_type(defaulted(item), int | None)
    assert_type(service.method(item), str | Skipped)
    result = bare(item)
    if result is not SKIPPED:
        print(result)
    for number in generator(item):
        assert_type(number, int)


async def coroutines(item: Item) -> None:
    assert_type(await coroutine(item), int | Skipped)
    assert_type(await joined(item), int)
    async for number in async_generator(item):
        assert_type(number, int)
