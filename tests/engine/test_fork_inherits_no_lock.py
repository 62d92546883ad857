"""After a fork no inherited mutex is touched: a thread that no longer exists may have had it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

from locksmith import aio
from locksmith.runtime_asyncio import Asyncio
from locksmith.testing import eventually


def test_a_child_leaves_the_pool_of_its_parent_alone(tmp_path: Path) -> None:
    """The asyncio runtime shut it down in the child, for which it takes the pool's lock."""

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        try:
            eventually(lambda: os.waitpid(child, os.WNOHANG)[0] == child)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        ended.append(child)

    async def main() -> None:
        async with aio.connect(f"sqlite:///{tmp_path}/x.db") as client:
            async with client.lock("n").acquire():
                pass
            runtime = client._engine.runtime
            assert isinstance(runtime, Asyncio)
            assert runtime._threads is not None
            with runtime._threads._shutdown_lock:  # as a thread that hands work to the pool at this moment
                forker = threading.Thread(target=fork)
                forker.start()
                forker.join()

    ended: list[int] = []
    asyncio.run(main())
    assert ended
