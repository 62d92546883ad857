"""Transactions and tasks that end in the middle, and stores that nobody closes."""

from __future__ import annotations

import asyncio
import gc
import warnings
from pathlib import Path
from typing import Any

import pytest

from locksmith.runtime import Blocking, drive
from locksmith_sql import SQLiteStore


def _ask(store: SQLiteStore, claim: Any) -> Any:
    return drive(store.acquire(claim(), queue=False))


def test_an_interrupt_inside_a_transaction_leaves_nothing(open_store: Any, claim: Any) -> None:
    store = open_store()
    grant = _ask(store, claim)

    def interrupted(ledger: Any) -> None:
        name = ledger.open("a")
        ledger.unhold(name, name.owner)
        ledger.save()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._desk.transact(interrupted)
    assert store._desk._link is None, "in doubt the connection is closed"
    assert drive(store.release(grant)) is True


def test_an_error_inside_a_transaction_rolls_back_and_keeps_the_connection(open_store: Any, claim: Any) -> None:
    store = open_store()
    _ask(store, claim)
    link = store._desk._link

    def broken(ledger: Any) -> None:
        ledger.cursor.execute("DELETE FROM test_lease")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store._desk.transact(broken, durable=True)
    assert store._desk._link is link
    assert link.raw.execute("PRAGMA synchronous").fetchone() == (1,)
    assert drive(store.inspect("a")).holders


def test_a_cancelled_task_does_not_share_its_connection(path: Path, claim: Any) -> None:
    """The thread's call goes on to its end; what comes after waits for it, and finds its work done."""
    from locksmith.runtime_asyncio import Asyncio

    async def main() -> None:
        store = SQLiteStore.from_url(f"sqlite:///{path}", runtime=Asyncio(), namespace="test")
        for i in range(50):
            mine = claim(f"n{i}")
            task = asyncio.create_task(store.acquire(mine, queue=True))
            for _ in range(i % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await store.abandon(mine, tombstone=True)
            assert not (await store.inspect(f"n{i}")).holders
        await store.close()

    asyncio.run(main())


def test_a_store_that_nobody_closed_goes_in_silence(path: Path, claim: Any) -> None:
    """Its connections are closed when it is collected, or else Python 3.13 warns of them."""
    store = SQLiteStore.from_url(f"sqlite:///{path}", runtime=Blocking(), namespace="test")
    _ask(store, claim)
    drive(store.wait(drive(store.acquire(claim(), queue=True)), 0.01))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del store
        gc.collect()
    assert not any(str(path) in str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
