"""Cases about interruptions: cancelled at every await, or Ctrl-C at every call of the store, one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeAlias

from locksmith.errors import AcquireTimeout
from locksmith.runtime import drive
from locksmith.store import Guarantee
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face, Job
from locksmith.testing.faults import FaultyStore, When, cancel_everywhere, places

Scenario: TypeAlias = Callable[[Any], Coroutine[Any, Any, None]]


class InterruptCases(Cases):
    """F16, rule 3: wherever an acquisition is cut short, nothing is left of it on the store."""

    most: ClassVar[int] = 300
    """Awaits or calls that one scenario may have."""

    async def interrupted(self, face: Face, scenario: Scenario, names: tuple[str, ...] = ("n",)) -> None:
        """Run a scenario with a client of its own, interrupted at its first place, its second, ..., to the last.

        Nothing must be left of these names.
        """
        self.names = names
        self.rival = self.connect(face)
        self.beside: list[Job[Any]] = []
        if face.name == "asyncio":
            await self._cancelled(face, scenario)  # a store in this process may have no awaits at all
        else:
            assert len(list(places(lambda number, when: self._hit(face, scenario, number, when), most=self.most))) >= 2

    names: tuple[str, ...]
    rival: Any
    beside: list[Job[Any]]

    async def _cancelled(self, face: Face, scenario: Scenario) -> int:
        clients: list[Any] = []

        async def run() -> None:
            clients.append(self.connect(face))
            await scenario(clients[-1])

        async def check(place: int, late: bool) -> None:
            await self._nothing_is_left(face, f"cancelled at await {place}{', late' if late else ''}")
            await clients.pop().close()

        return await cancel_everywhere(run, check, most=self.most)

    def _hit(self, face: Face, scenario: Scenario, number: int, when: When) -> bool:
        store = FaultyStore(self.store(face))
        client = face.client_over(store)
        met = store.fail_at(number, when, KeyboardInterrupt, mine=store.runtime.context())
        try:
            drive(scenario(client))
        except KeyboardInterrupt:
            assert met
        store.before = store.after = None
        drive(self._nothing_is_left(face, f"interrupted {when} call {number}: {met}"))
        drive(client.close())
        return bool(met)

    async def _nothing_is_left(self, face: Face, after: str) -> None:
        for job in self.beside:
            await job.result()
        self.beside.clear()

        for name in self.names:

            async def empty(name: str = name) -> bool:
                found = await self.rival.inspect(name)
                return not found.holders and not found.waiters

            await face.eventually(empty, within=self.margin, what=f"nothing is left of {name!r}, {after}")
            async with self.rival.lock(name).acquire(wait=0):
                pass

    @case()
    async def test_interrupted_while_it_acquires_and_releases(self, face: Face) -> None:
        """Complaint 8, nastiest scenario 11: a free name is taken and given back."""

        async def scenario(client: Any) -> None:
            lease = await client.lock("n").acquire()
            await lease.release()

        await self.interrupted(face, scenario)

    @case(needs=Guarantee.FIFO)
    async def test_interrupted_while_it_waits_for_its_turn(self, face: Face) -> None:
        """Complaints 11 and 13, nastiest scenario 6: in line, handed over to, confirmed, given back."""

        async def scenario(client: Any) -> None:
            held = await self.rival.lock("n").acquire()
            self.beside.append(face.start(self._soon_released(face, held)))
            async with client.lock("n").acquire(wait=30):
                await face.sleep(0)

        await self.interrupted(face, scenario)

    async def _soon_released(self, face: Face, lease: Any) -> None:
        await face.sleep(0.01)
        await lease.release()

    @case(needs=Guarantee.FIFO)
    async def test_interrupted_while_it_waits_in_vain(self, face: Face) -> None:
        """Rule 3: in line until its patience ends, and while it leaves the line."""

        async def scenario(client: Any) -> None:
            held = await self.rival.lock("n").acquire()
            self.beside.append(face.start(self._released_when_nobody_waits(face, held)))
            with contextlib.suppress(AcquireTimeout):
                async with client.lock("n").acquire(wait=0.01):
                    pass  # it is a busy machine: the line has moved on meanwhile

        await self.interrupted(face, scenario)

    async def _released_when_nobody_waits(self, face: Face, lease: Any) -> None:
        await face.sleep(0.03)

        async def nobody() -> bool:
            return not (await self.rival.inspect("n")).waiters

        await face.eventually(nobody, what="the line is left")
        await lease.release()

    @case()
    async def test_interrupted_while_it_closes(self, face: Face) -> None:
        """Closing gives back what is held; cut short, what is left of it is done by the keeper or by a second try."""

        async def scenario(client: Any) -> None:
            await client.lock("n").acquire()
            try:
                await client.close()
            except BaseException:
                await client.close()
                raise

        await self.interrupted(face, scenario)

    @case()
    async def test_interrupted_while_it_takes_several_names(self, face: Face) -> None:
        """A multi-lock of free names is taken and given back: all of it is undone, in one step or one by one."""

        async def scenario(client: Any) -> None:
            lease = await client.lock_all(["m", "n"]).acquire()
            await lease.release()

        await self.interrupted(face, scenario, ("m", "n"))

    @case()
    async def test_interrupted_while_it_waits_for_one_of_several_names(self, face: Face) -> None:
        """Holding the one, in line for the other: both are undone."""

        async def scenario(client: Any) -> None:
            held = await self.rival.lock("n").acquire()
            self.beside.append(face.start(self._soon_released(face, held)))
            async with client.lock_all(["n", "m"]).acquire(wait=30):
                await face.sleep(0)

        await self.interrupted(face, scenario, ("m", "n"))
