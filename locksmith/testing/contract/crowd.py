"""Cases with many threads or tasks at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from locksmith.store import Guarantee
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face


@contextmanager
def hurried_threads() -> Iterator[None]:
    """Switch between threads as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class CrowdCases(Cases):
    """Nothing is lost or doubled among the threads and tasks of one client."""

    crowd: ClassVar[int] = 8

    @case(needs=Guarantee.FENCED)
    async def test_thousands_of_acquisitions_by_many_at_once(self, face: Face) -> None:
        """P1, P2, section 4 "driver conformance": a counter that only exclusion protects, tokens in order."""
        client = self.connect(face)
        names = ("a", "b", "c", "d")
        counters = dict.fromkeys(names, 0)
        tokens: dict[str, list[int]] = {name: [] for name in names}
        each = self.rounds // self.crowd

        async def work(first: int) -> None:
            for number in range(each):
                name = names[(first + number) % len(names)]
                lock = client.lock(name)
                lease = await lock.try_acquire() if number % 3 == 0 else None
                lease = lease or await lock.acquire(wait=60)
                before = counters[name]
                tokens[name].append(lease.token)
                if number % 50 == 0:
                    await face.sleep(0)
                counters[name] = before + 1
                assert await lease.release() is True

        with hurried_threads():
            jobs = [face.start(work(first)) for first in range(self.crowd)]
            for job in jobs:
                await job.result(100)
        assert sum(counters.values()) == each * self.crowd
        for name in names:
            assert tokens[name] == sorted(set(tokens[name]))
        await self.nothing_left(face, *names)

    @case(needs=Guarantee.FIFO)
    async def test_a_semaphore_under_pressure(self, face: Face) -> None:
        """Never more permits out than there are, and never fewer than could be for long: all get their turn."""
        client = self.connect(face)
        inside, most = 0, 0

        async def work(permits: int) -> None:
            nonlocal inside, most
            for _ in range(max(2, self.rounds // 400)):
                async with client.semaphore("s", limit=3).acquire(wait=60, permits=permits):
                    inside += permits
                    most = max(most, inside)
                    await face.sleep(0)
                    inside -= permits

        jobs = [face.start(work(permits)) for permits in (1, 2, 3, 1, 2, 1)]
        for job in jobs:
            await job.result(100)
        assert inside == 0
        assert most <= 3
        await self.nothing_left(face, "s")

    @case(needs=Guarantee.FIFO)
    async def test_impatient_waiters_leave_nothing(self, face: Face) -> None:
        """P6, complaint 7: timeouts that race with hand-overs lose no permit and leave no orphan."""
        client = self.connect(face)
        turns = 0

        async def work(patience: float) -> None:
            nonlocal turns
            for _ in range(max(3, self.rounds // 200)):
                try:
                    async with client.lock("n").acquire(wait=patience):
                        turns += 1
                        await face.sleep(0.001)
                except TimeoutError:
                    pass

        jobs = [face.start(work(patience)) for patience in (0.0005, 0.001, 0.002, 0.004)]
        for job in jobs:
            await job.result(100)
        assert turns > 0
        await self.nothing_left(face, "n")
        async with client.lock("n").acquire(wait=0):
            pass
