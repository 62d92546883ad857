"""What is undone after it was lost, and what is thrown away while the keeper starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import locksmith
from locksmith import aio
from locksmith.runtime import Background, drive


@pytest.mark.parametrize("url", ["memory://undone", "sqlite:///{}/x.db"])
def test_a_lost_lease_that_is_undone_leaves_its_lock_delay(url: str, tmp_path: Path) -> None:
    """As on Redis: that its holder asks later to undo it does not make the loss a release."""
    with locksmith.connect(url.format(tmp_path), ttl=1.0) as client:
        client.inspect("n")  # opens the file, which may take longer than a ttl
        lease = client.lock("n", lock_delay=30).acquire()
        client._engine.keeper.drop(lease._hold)
        time.sleep(1.1)
        drive(client._engine.store.abandon(lease._hold.grant.claim, tombstone=True))
        assert client.inspect("n").closed_for > 10


def test_a_coroutine_that_is_collected_while_the_keeper_starts() -> None:
    """It owes its claim, for which the keeper is started: the thread waited for a lock that it had itself."""

    async def main() -> None:
        client = aio.connect("memory://collected")
        engine = client._engine
        store: Any = engine.store
        background = engine.runtime.background
        forgotten: list[Any] = []
        started: list[str] = []

        async def silent(*args: Any, **options: Any) -> None:
            await asyncio.Event().wait()

        def collecting(work: Callable[[], Any], name: str) -> Background | None:
            started.append(name)
            forgotten.clear()
            return background(work, name)

        store.acquire = silent
        forgotten.append(engine.acquire(client.lock("n")._permits.claim(), None))
        forgotten[0].send(None)
        engine.runtime.background = collecting  # type: ignore[method-assign]
        assert engine.ensure_keeper()
        assert started == ["locksmith-keeper"]
        await client.close()

    asyncio.run(main())
