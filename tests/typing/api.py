"""What type checkers see of the public API. Never run: mypy and basedpyright read it, both as strictly as they can."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from prometheus_client import CollectorRegistry

import locksmith
from locksmith import SKIPPED, aio, events, metrics, run_once
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


def fencing(client: locksmith.Client, request: dict[str, str]) -> None:
    with client.lock("reports:daily").acquire() as lease:
        fence = locksmith.Fence.of(lease)
        assert_type(fence, locksmith.Fence)
        assert_type(fence.to_header(), str)
        assert_type(fence.to_environment(), dict[str, str])
    assert_type(locksmith.Fence.from_header(request.get("Locksmith-Fence")).token, int)
    mark = locksmith.Watermark()
    with mark.admit(lease), mark.admit(fence):
        assert_type(mark.seen(fence.name), int)


async def fencing_in_asyncio(client: aio.AsyncClient) -> None:
    async with await client.lock("reports:daily").acquire() as lease:
        assert_type(locksmith.Fence.of(lease), locksmith.Fence)


def election(client: locksmith.Client) -> None:
    election = client.election("scheduler", ttl=10, lock_delay=1)
    assert_type(election, locksmith.Election)

    @election.on_elected
    def begin(leadership: locksmith.Leadership) -> None: ...

    @election.on_lost
    def end() -> None: ...

    with election.campaign(wait=5, value={"port": 80}, note="first") as leadership:
        assert_type(leadership, locksmith.Leadership)
        assert_type(leadership.term, int)
        leadership.proclaim([1, 2])
        assert_type(leadership.resign(), bool)
    assert_type(election.leading, locksmith.Leadership | None)
    assert_type(election.resign(), bool)
    assert_type(election.leader(), locksmith.Leader | None)
    for leader in election.observe(wait=1):
        assert_type(leader, locksmith.Leader | None)
    assert_type(election.run(lambda leadership: leadership.token, stop=threading.Event()), int | None)


def cells(client: locksmith.Client, lease: locksmith.Lease) -> None:
    raw = client.cell("blob", raw=True)
    assert_type(raw, locksmith.Cell[bytes])
    assert_type(raw.get(), locksmith.Versioned[bytes] | None)
    cell = client.cell("config")
    version = cell.put({"a": 1}, expect=locksmith.ABSENT, ttl=60, guard=lease)
    assert_type(version, int)
    assert_type(cell.put(1, expect=version), int)
    assert_type(cell.delete(expect=locksmith.ANY), bool)
    assert_type(raw.update(lambda value: bytes(value) + b"x", default=b"", tries=3), locksmith.Versioned[bytes])
    for found in raw.watch(wait=1):
        assert_type(found, locksmith.Versioned[bytes] | None)


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


async def asynchronous_recipes(client: aio.AsyncClient, lease: aio.AsyncLease) -> None:
    election = client.election("scheduler", ttl=10)
    assert_type(election, aio.AsyncElection)
    async with election.campaign(wait=5, value=1, cancel_on_loss=True) as leadership:
        assert_type(leadership, aio.AsyncLeadership)
        await leadership.proclaim(2)
    assert_type(await election.campaign(), aio.AsyncLeadership)
    assert_type(await election.leader(), locksmith.Leader | None)
    async for leader in election.observe():
        assert_type(leader, locksmith.Leader | None)

    async def lead(leadership: aio.AsyncLeadership) -> str:
        return leadership.name

    assert_type(await election.run(lead), str | None)
    raw = client.cell("blob", raw=True)
    assert_type(raw, aio.AsyncCell[bytes])
    assert_type(await raw.get(), locksmith.Versioned[bytes] | None)
    assert_type(await raw.put(b"x", guard=lease), int)
    async for found in raw.watch():
        assert_type(found, locksmith.Versioned[bytes] | None)


# ------------------------------------------------------------------------------------- rate limits


def limits(client: locksmith.Client) -> None:
    limit = client.rate_limit("sms", "70/s", "1000/h", burst=[0, 5])
    assert_type(limit, locksmith.RateLimit)
    assert_type(limit.try_take(2, key="user"), bool)
    assert_type(limit.take(wait=1.5), locksmith.Slot)
    assert_type(limit.reserve().delay, float)
    assert_type(paced("a", number=1), str)
    client.rate_limit("sms", 70)  # type: ignore[arg-type]
    paced(1)  # type: ignore[arg-type]


async def async_limits(client: aio.AsyncClient) -> None:
    limit = client.rate_limit("sms", "70/s", burst=3)
    assert_type(limit, aio.AsyncRateLimit)
    assert_type(await limit.try_take(), bool)
    assert_type(await limit.take(2, wait=0, key="user"), locksmith.Slot)
    assert_type((await limit.reserve()).at, int)
    assert_type(await paced_coroutine("a"), str)


@locksmith.rate_limited("70/s", key="{user}", on_limit="raise")
def paced(user: str, *, number: int = 0) -> str:
    return user * number


@locksmith.rate_limited("70/s", "1000/h", burst=5, wait=1, store="memory://")
async def paced_coroutine(user: str) -> str:
    return user


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


# ------------------------------------------------------------------------------------- metrics


def measured(client: locksmith.Client, other: aio.AsyncClient, registry: CollectorRegistry) -> None:
    collector = metrics.instrument(client, registry=registry, names=["user:*"])
    assert_type(collector, metrics.PrometheusCollector)
    collector.attach(other)
    collector.detach(client)
    journal = metrics.log_events(other, long_wait=2, repeat=30)
    assert_type(journal, metrics.EventLog)
    other.remove_hook(journal)

    def hook(event: events.Event) -> None:
        if isinstance(event, events.Acquired):
            assert_type(event.waited, float)

    client.add_hook(hook)
