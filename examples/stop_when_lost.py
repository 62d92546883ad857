"""Long work in asyncio that ends itself when its lease cannot be trusted any more.

    LOCKSMITH_URL=redis://locks:6379/0 python stop_when_lost.py

Checking before each step is the least; waiting for the loss beside the work also ends a step that hangs.
"""

from __future__ import annotations

import asyncio
import os
import sys

import locksmith.aio


async def steps() -> None:
    """The work, step by step: an hour of it, if it is let."""
    for _ in range(3600):
        await asyncio.sleep(1)


async def work_until_lost(client: locksmith.aio.AsyncClient) -> str:
    """Work under the lock; stop at once when it is lost."""
    async with asyncio.timeout(30):
        lease = await client.lock("import", ttl=3).acquire(wait=10)
        work = asyncio.create_task(steps())
        lost = asyncio.create_task(lease.lost.wait())
        # Here somebody takes the lock away: in life an operator, a partition, or a process that was stopped too long.
        await client.evict("import", lease.token)
        await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
        for task in (work, lost):
            task.cancel()
        await asyncio.gather(work, lost, return_exceptions=True)
        try:
            await lease.release()
        except locksmith.LeaseLost as loss:
            return f"stopped: {loss}"
    return "finished"


async def main() -> int:
    """Run it against the store of the environment."""
    async with locksmith.aio.connect(os.environ["LOCKSMITH_URL"]) as client:
        outcome = await work_until_lost(client)
    print(outcome)
    return 0 if outcome.startswith("stopped") else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
