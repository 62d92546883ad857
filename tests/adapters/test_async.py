"""run_once on async functions and async generators."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

import locksmith
from locksmith import (
    SKIPPED,
    AlreadyRunning,
    ConfigurationError,
    LeaseLost,
    SelfDeadlock,
    current_lease,
    run_once,
)
from locksmith.testing.waiting import eventually_async

pytestmark = pytest.mark.asyncio


async def held(store: str, name: str = "k") -> bool:
    async with locksmith.aio.connect(store) as client:
        return bool((await client.inspect(name)).holders)


async def waiters(store: str, name: str = "k") -> int:
    async with locksmith.aio.connect(store) as client:
        return len((await client.inspect(name)).waiters)


async def test_it_is_still_a_coroutine_function(store: str) -> None:
    @run_once("k:{n}", store=store)
    async def fn(n: int) -> int:
        """Doc."""
        await asyncio.sleep(0)
        return n + 1

    assert inspect.iscoroutinefunction(fn)
    assert fn.__doc__ == "Doc."
    assert await fn(1) == 2
    assert fn.key(1) == "k:1"  # type: ignore[attr-defined]


async def test_conflicts(store: str) -> None:
    go_on = asyncio.Event()
    runs: list[str] = []

    async def body(how: str) -> str:
        runs.append(how)
        await go_on.wait()
        return how

    skip = run_once("k", store=store)(body)
    refuse = run_once("k", store=store, on_conflict="raise")(body)
    wait = run_once("k", store=store, on_conflict="wait")(body)
    first = asyncio.create_task(skip("first"))
    await eventually_async(lambda: runs)
    assert await skip("second") is SKIPPED
    with pytest.raises(AlreadyRunning) as caught:
        await refuse("third")
    assert caught.value.holder is not None
    assert caught.value.holder.endswith(f":{os.getpid()}")
    fourth = asyncio.create_task(wait("fourth"))
    await eventually_async(lambda: waiters(store))
    go_on.set()
    assert await first == "first"
    assert await fourth == "fourth"
    assert runs == ["first", "fourth"]


async def test_join(store: str) -> None:
    runs = []

    @run_once("k", store=store, on_conflict="join")
    async def fn() -> dict[str, int]:
        runs.append(1)
        await eventually_async(lambda: waiters(store))
        return {"run": len(runs)}

    assert await asyncio.gather(fn(), fn()) == [{"run": 1}] * 2


async def test_once_per(store: str) -> None:
    @run_once("k", store=store, once_per=60)
    async def fn() -> int:
        return 1

    assert [await fn(), await fn()] == [1, SKIPPED]


async def test_the_lease_of_a_task_is_its_own(store: str) -> None:
    @run_once("k:{n}", store=store)
    async def fn(n: int) -> str:
        await asyncio.sleep(0)
        lease = current_lease()
        assert isinstance(lease, locksmith.aio.AsyncLease)
        assert await asyncio.create_task(child()) == lease.name
        assert await asyncio.to_thread(lambda: current_lease() is lease)
        return lease.name

    async def child() -> str:
        return current_lease().name  # type: ignore[union-attr]

    assert await asyncio.gather(fn(1), fn(2)) == ["k:1", "k:2"]
    assert current_lease() is None


async def test_exceptions_and_losses(store: str) -> None:
    @run_once("k", store=store, once_per=60)
    async def fn(fail: bool) -> str:
        if fail:
            raise ValueError("mine")
        async with locksmith.aio.connect(store) as client:
            await client.evict("k", current_lease().token)  # type: ignore[union-attr]
        return "result"

    with pytest.raises(ValueError, match="mine"):
        await fn(True)
    with pytest.raises(LeaseLost) as caught:
        await fn(False)
    assert caught.value.result == "result"
    assert not await held(store)


async def test_waiting_for_oneself_is_refused(store: str) -> None:
    @run_once("k", store=store, on_conflict="wait")
    async def fn(depth: int) -> int:
        return await fn(depth - 1) if depth else 0

    with pytest.raises(SelfDeadlock):
        await fn(1)


async def test_a_cancelled_run_gives_the_name_back(store: str) -> None:
    @run_once("k", store=store, once_per=60)
    async def fn() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(fn())
    await eventually_async(lambda: held(store))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not await held(store)


async def test_a_coroutine_that_is_thrown_away_gives_the_name_back(store: str) -> None:
    @run_once("k", store=store, ttl=60)
    async def fn() -> None:
        await asyncio.Event().wait()

    coroutine = fn()
    coroutine.send(None)
    assert await held(store)
    coroutine.close()

    async def free() -> bool:
        return not await held(store)

    await eventually_async(free)


async def test_a_cancelled_waiter_leaves_the_line(store: str) -> None:
    @run_once("k", store=store, on_conflict="wait")
    async def fn() -> None:
        raise AssertionError("must not run")

    async with locksmith.aio.connect(store) as client, client.lock("k").acquire():
        task = asyncio.create_task(fn())
        await eventually_async(lambda: waiters(store))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not await waiters(store)


async def test_methods(store: str) -> None:
    class Account:
        number = 7

        @run_once("{self.number}:{x}", store=store)
        async def method(self, x: int) -> int:
            return x

        @run_once("{cls.number}:{x}", store=store)
        @classmethod
        async def make(cls, x: int) -> int:
            return x + 1

    assert await Account().method(1) == 1
    assert await Account.make(1) == 2
    assert inspect.iscoroutinefunction(Account().method)


async def test_callable_objects(store: str) -> None:
    class Adder:
        async def __call__(self, a: int) -> int:
            return a + 1

    fn = run_once("adder", store=store)(Adder())
    assert inspect.iscoroutinefunction(fn)
    assert await fn(1) == 2


# Async generators


async def test_async_generators(store: str) -> None:
    @run_once("k", store=store)
    async def fn(n: int) -> AsyncIterator[str]:
        for _ in range(n):
            yield current_lease().name  # type: ignore[union-attr]

    assert inspect.isasyncgenfunction(fn)
    steps: Any = fn(2)
    assert not await held(store)
    assert await anext(steps) == "k"
    assert await held(store)
    assert current_lease() is None
    assert [item async for item in fn(5)] == []
    assert [item async for item in steps] == ["k"]
    assert not await held(store)


async def test_send_and_throw_pass_through(store: str) -> None:
    @run_once("k", store=store)
    async def fn() -> Any:
        got = yield "first"
        try:
            yield got
        except KeyError as error:
            yield error

    steps = fn()
    assert await anext(steps) == "first"
    assert await steps.asend("sent") == "sent"
    error = KeyError("thrown")
    assert await steps.athrow(error) is error
    with pytest.raises(StopAsyncIteration):
        await anext(steps)
    assert not await held(store)


@pytest.mark.parametrize("leave", ["close", "throw", "raise"])
async def test_every_way_out_gives_the_name_back(store: str, leave: str) -> None:
    cleaned = []

    @run_once("k", store=store, once_per=60)
    async def fn() -> Any:
        try:
            yield 1
            raise ValueError("mine")
        finally:
            await asyncio.sleep(0)
            assert current_lease() is not None
            cleaned.append(leave)

    steps = fn()
    await anext(steps)
    if leave == "close":
        await steps.aclose()
    elif leave == "throw":
        with pytest.raises(KeyError):
            await steps.athrow(KeyError())
    else:
        with pytest.raises(ValueError, match="mine"):
            await anext(steps)
    assert cleaned == [leave]
    assert not await held(store)


async def test_a_generator_that_is_dropped_gives_the_name_back(store: str) -> None:
    @run_once("k", store=store)
    async def fn() -> Any:
        yield 1

    async for _ in fn():
        assert await held(store)
        break

    async def free() -> bool:
        return not await held(store)

    await eventually_async(free)


async def test_a_default_of_an_async_generator(store: str) -> None:
    @run_once("k", store=store, default=[7])
    async def fn() -> AsyncIterator[int]:
        yield 1

    steps: Any = fn()
    await anext(steps)
    assert [item async for item in fn()] == [7]
    await steps.aclose()


async def test_a_lost_generator_has_no_next_step(store: str) -> None:
    @run_once("k", store=store, ttl=0.1, max_hold=0.1)
    async def fn() -> Any:
        yield current_lease()
        raise AssertionError("must not be reached")

    steps = fn()
    lease = await anext(steps)
    await lease.lost.wait()
    with pytest.raises(LeaseLost):
        await anext(steps)


async def test_a_blocking_client_is_refused(store: str) -> None:
    with locksmith.connect(store) as client, pytest.raises(ConfigurationError, match=r"locksmith.aio.connect"):

        @run_once("k", client=client)
        async def fn() -> None: ...
