"""Cases with real processes: many at once, killed, stopped, interrupted, forked."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from locksmith.errors import StoreUnavailable
from locksmith.store import Guarantee
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face
from locksmith.testing.processes import Worker, WorkerError


class WithWorkers(Cases):
    """What cases with real processes stand on."""

    @contextmanager
    def workers(self, face: Face, count: int = 1, **settings: Any) -> Iterator[list[Worker]]:
        """Worker processes in the runtime of the case."""
        with ExitStack() as stack:
            settings = {"namespace": self.namespace} | settings
            yield [stack.enter_context(Worker(self.url(), runtime=face.name, **settings)) for _ in range(count)]

    async def stop(self, face: Face, client: Any, worker: Worker) -> None:
        """SIGSTOP it, and not within a step of its store during which nobody else gets an answer.

        Files have such steps: with the writer's lock in a stopped process, the store cannot be asked. That is no case
        of a lease, and where it happens (one stop in fifty, in a folder of JSON files) the process goes on and is
        stopped at another moment.
        """
        worker.send_signal(signal.SIGSTOP)
        while True:
            try:
                await (await client.lock("stopped outside a step").acquire(wait=20)).release()
                return
            except StoreUnavailable:
                worker.send_signal(signal.SIGCONT)
                await face.sleep(0.1)
                worker.send_signal(signal.SIGSTOP)

    async def on(self, face: Face, do: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a worker says, while this process' own leases go on being renewed."""
        return await face.call(lambda: do(*args, **kwargs))

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    folder: Path


class ProcessCases(WithWorkers):
    """What holds between processes, whatever becomes of them."""

    async def _wait(self, client: Any) -> Any:
        return await client.lock("n").acquire(wait=60)

    @case(shared=True)
    async def test_many_processes_and_one_counter(self, face: Face) -> None:
        """P1, P2, section 3: no increment is lost, tokens come in order; for those who wait and those who try."""
        with self.workers(face, 4) as workers:
            for wait in (True, False):
                path = Path(self.folder) / f"counter-{wait}"
                path.write_text("0", "utf-8")
                for worker in workers:
                    worker.tell("count", name="n", path=str(path), times=self.increments, wait=wait)
                for worker in workers:
                    assert await self.on(face, worker.answer, 60) == self.increments
                assert int(path.read_text("utf-8")) == 4 * self.increments
                tokens = [int(line) for line in path.with_suffix(".tokens").read_text("utf-8").split()]
                assert tokens == sorted(set(tokens))
        await self.nothing_left(face, "n")

    increments = 25

    @case(shared=True)
    async def test_a_killed_holder_is_succeeded(self, face: Face) -> None:
        """F1, P8, complaint 21: SIGKILL while it holds; another has the name when its ttl is over, token greater."""
        client, ttl = self.connect(face), 2 * self.short
        with self.workers(face) as [worker]:
            token = await self.on(face, worker.ask, "acquire", name="n", ttl=ttl)
            await face.sleep(1.2 * ttl)
            assert await client.lock("n").try_acquire() is None
            worker.kill()
            killed = time.monotonic()
            lease = await client.lock("n").acquire(wait=20)
            assert time.monotonic() - killed < ttl + self.late(face, ttl) + self.margin / 2
            assert lease.token > token
            assert await lease.release()

    @case(shared=True, needs=Guarantee.FIFO)
    async def test_a_killed_waiter_is_passed_over(self, face: Face) -> None:
        """Section 8, complaint 6: a dead waiter at the head of the line costs one waiter_ttl."""
        waiter_ttl = 2 * self.short
        client = self.connect(face, waiter_ttl=waiter_ttl)  # its beats, a third of this apart, find the dead one out
        held = await client.lock("n").acquire()
        with self.workers(face, ttl=waiter_ttl, waiter_ttl=waiter_ttl) as [worker]:
            worker.tell("acquire", name="n")
            await self.in_line(face, client)
            behind = face.start(self._wait(client))
            await self.in_line(face, client, 2)
            worker.kill()
        assert await held.release()
        lease = await behind.result(waiter_ttl + self.late(face, waiter_ttl) + self.margin)
        assert await lease.release()
        await self.nothing_left(face, "n")

    @case(shared=True)
    async def test_a_stopped_holder_learns_that_it_lost(self, face: Face) -> None:
        """F2, P3, P4, complaints 23 and 24: at its first look, without a word from anybody; its successor is unhurt."""
        client, ttl = self.connect(face), 2 * self.short
        with self.workers(face) as [worker]:
            token = await self.on(face, worker.ask, "acquire", name="n", ttl=ttl)
            await self.stop(face, client, worker)
            successor = await client.lock("n").acquire(wait=20)
            assert successor.token > token
            await face.sleep(0.1)
            worker.send_signal(signal.SIGCONT)
            seen = await self.on(face, worker.ask, "look", name="n")
            assert (seen["held"], seen["remaining"]) == (False, 0.0)
            for verb in ("check", "release", "check"):
                with pytest.raises(WorkerError) as error:
                    await self.on(face, worker.ask, verb, name="n")
                assert error.value.name == "LeaseLost"
            assert successor.held
            assert await self.on(face, worker.ask, "try_acquire", name="n") is None
            assert await successor.release() is True

    @case(shared=True, needs=Guarantee.FIFO)
    async def test_a_stopped_waiter_does_not_believe_in_an_old_turn(self, face: Face) -> None:
        """Nastiest scenario 1: its turn came and went while it was stopped; it waits again, and gets another turn."""
        client, waiter_ttl = self.connect(face), 2 * self.short
        held = await client.lock("n").acquire()
        with self.workers(face, ttl=waiter_ttl, waiter_ttl=waiter_ttl) as [worker]:
            worker.tell("acquire", name="n")
            await self.in_line(face, client)
            await self.stop(face, client, worker)
            assert await held.release()  # hands over to the one that is stopped
            lease = await client.lock("n").acquire(wait=20)
            worker.send_signal(signal.SIGCONT)
            await face.sleep(0.3)
            assert lease.held
            assert not worker.answered()
            token = lease.token
            assert await lease.release()
            assert await self.on(face, worker.answer) > token
            assert await self.on(face, worker.ask, "release", name="n") is True

    @case(shared=True, needs=Guarantee.FIFO)
    async def test_an_interrupted_waiter_leaves_at_once(self, face: Face) -> None:
        """Rule 3, F16: Ctrl-C while it waits, and nobody is in line any more, long before its waiter_ttl."""
        client = self.connect(face)
        held = await client.lock("n").acquire()
        with self.workers(face, ttl=30.0, waiter_ttl=30.0) as [worker]:
            worker.tell("acquire", name="n")
            await self.in_line(face, client)
            worker.send_signal(signal.SIGINT)
            await self.in_line(face, client, 0)
            await self.on(face, worker.wait)
        assert await held.release()
        await self.nothing_left(face, "n")

    @case(shared=True)
    async def test_a_process_that_ends_while_it_holds_ends_cleanly(self, face: Face) -> None:
        """Section 5: no traceback, no hanging join; the name is free when the ttl is over."""
        client, ttl = self.connect(face), 2 * self.short
        with self.workers(face) as [worker]:
            await self.on(face, worker.ask, "acquire", name="n", ttl=ttl)
            began = time.monotonic()
            worker.tell("leave")
            assert await self.on(face, worker.wait) == 0
            assert time.monotonic() - began < 2 + self.margin
            assert worker.complaints() == ""
        assert await (await client.lock("n").acquire(wait=ttl + self.late(face, ttl) + self.margin)).release()

    @case(shared=True, needs=Guarantee.FIFO)
    async def test_a_process_that_ends_while_it_waits_ends_cleanly(self, face: Face) -> None:
        """Section 5: a thread or task that waits does not keep the process from ending."""
        client = self.connect(face)
        held = await client.lock("n").acquire()
        waiter_ttl = 2 * self.short
        with self.workers(face, ttl=waiter_ttl, waiter_ttl=waiter_ttl) as [worker]:
            await self.on(face, worker.ask, "wait_beside", name="n")
            await self.in_line(face, client)
            worker.tell("leave")
            assert await self.on(face, worker.wait) == 0
            assert worker.complaints() == ""
        assert await held.release()
        await self.nothing_left(face, "n")

    # Forks. These hold for stores in one process, too.

    async def _forks(self, face: Face, how: str) -> dict[str, Any]:
        """A worker that holds forks, its child does `how`, and the worker still holds and goes on renewing."""
        ttl = 3 * self.short
        with self.workers(face) as [worker]:
            await self.on(face, worker.ask, "acquire", name="n", ttl=ttl)
            report: dict[str, Any] = await self.on(face, worker.ask, "fork", name="n", how=how)
            assert report.pop("status") == 0
            assert "error" not in report, report
            assert (report["held"], report["remaining"]) == (False, 0.0)
            ends = time.monotonic() + 1.3 * ttl
            while time.monotonic() < ends:
                assert (await self.on(face, worker.ask, "look", name="n"))["held"] is True
                await face.sleep(ttl / 5)
            if not self.one_process(face):
                assert await self.connect(face).lock("n").try_acquire() is None
            assert await self.on(face, worker.ask, "release", name="n") is True
            assert worker.complaints() == ""
        return report

    @case()
    async def test_a_forked_child_holds_nothing(self, face: Face) -> None:
        """F14, P7: it may look, and it may end without a word."""
        await self._forks(face, "look")

    @case()
    async def test_a_forked_child_releases_nothing(self, face: Face) -> None:
        """F14, P7, complaint 9: release says whose it is, and does nothing."""
        assert (await self._forks(face, "release"))["released"] == "InheritedLease"

    @case()
    async def test_a_forked_child_that_closes_or_forgets_ends_nothing(self, face: Face) -> None:
        """F14, nastiest scenario 13: closing the client, collecting garbage and leaving through atexit."""
        for how in ("close", "collect", "exit"):
            await self._forks(face, how)

    @case()
    async def test_a_forked_child_acquires_its_own(self, face: Face) -> None:
        """Section 11: the client works in the child, over connections of its own; the parent's name stays taken."""
        report = await self._forks(face, "acquire")
        assert (report["own"], report["own_released"]) == (True, True)
        assert report["parents"] is self.one_process(face)
