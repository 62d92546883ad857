"""Giving back, where it is interrupted, repeated, inherited, or asked on the wrong event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Any

import pytest
from enginebench import Bench

import locksmith
from locksmith.testing import eventually


def test_an_interrupt_anywhere_in_a_release_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: between "renew this no more" and the request there is no moment from which the name stays taken."""
    lease = bench.client.lock("x").acquire()
    engine = bench.client._engine

    def interrupted(hold: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_let_go", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lease.release()
    eventually(lambda: not bench.client.inspect("x").holders, within=5)
    assert lease.release() is True


@pytest.mark.native_threads
def test_one_client_on_two_running_loops_is_refused(url: str) -> None:
    """Each loop would start a keeper of its own over the same leases."""
    client = locksmith.aio.connect(url)
    here, done = threading.Event(), threading.Event()

    async def hold() -> None:
        async with client.lock("x").acquire():
            here.set()
            await asyncio.to_thread(done.wait, 30)

    other = threading.Thread(target=lambda: asyncio.run(hold()))
    other.start()
    try:
        assert here.wait(5)
        with pytest.raises(locksmith.ConfigurationError, match="event loop"):
            asyncio.run(_take(client, "y"))
    finally:
        done.set()
        other.join()
    asyncio.run(_take(client, "y"))


async def _take(client: Any, name: str) -> None:
    async with client.lock(name).acquire(wait=0):
        pass


def test_a_child_that_leaves_its_parents_block_says_nothing(url: str) -> None:
    client = locksmith.connect(url)
    read, write = os.pipe()
    with client.lock("x").acquire() as lease:
        child = os.fork()
        if child == 0:
            try:
                lease.__exit__(None, None, None)
                os.write(write, b"quiet")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 100) == b"quiet"
        assert lease.held
    os.close(read)
    os.close(write)
    client.close()


def test_a_body_that_swallows_our_cancellation_is_not_left_cancelled(bench: Bench, url: str) -> None:
    async def scenario() -> int:
        async with locksmith.aio.connect(url + "-swallow", ttl=0.2) as client:
            task = asyncio.current_task()
            assert task is not None
            with pytest.raises(locksmith.LeaseLost):
                await swallow(client)
            return task.cancelling()

    async def swallow(client: Any) -> None:
        async with client.lock("x").acquire(cancel_on_loss=True) as lease:
            assert await client.evict("x", lease.token)
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(30)

    assert asyncio.run(scenario()) == 0


def test_a_yes_after_the_client_was_closed_is_undone(bench: Bench) -> None:
    """A request under way when close() runs on another thread."""
    engine = bench.client._engine

    def closed_meanwhile(*_: object) -> None:
        engine.closed = True

    bench.store.after = closed_meanwhile
    with pytest.raises(locksmith.ClientClosed):
        bench.client.lock("x").acquire()
    bench.store.after = None
    engine.closed = False
    assert not bench.client.inspect("x").holders
