"""run_once between real processes (P8, P11): they race, are killed, are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest

import locksmith
from locksmith.testing.waiting import eventually

PROGRAM = Path(__file__).parent / "programs" / "jobs.py"
pytestmark = pytest.mark.native_threads


class Worker:
    """A process of programs/jobs.py; what it says arrives line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines: Queue[str] = Queue()
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()
        self.expect("ready")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        return self.lines.get(timeout=30)

    def expect(self, line: str) -> None:
        assert self.hear() == line

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.reader.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Yard:
    """Workers on one store, with keys and a log of this test's own."""

    def __init__(self, url: str, log: Path, stack: ExitStack) -> None:
        self.url = url
        self.log = log
        self.prefix = uuid.uuid4().hex
        self.client = stack.enter_context(locksmith.connect(url))
        self._stack = stack

    def worker(self, *jobs: str, **settings: Any) -> Worker:
        worker = Worker(self.url, self.prefix, ",".join(jobs), json.dumps(settings), str(self.log))
        self._stack.callback(worker.close)
        return worker

    def counts(self, what: str) -> Counter[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return Counter(line.split()[1] for line in lines if line.split()[0] == what)

    def waits(self, job: str) -> Callable[[], bool]:
        return lambda: bool(self.client.inspect(f"{self.prefix}:{job}").waiters)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    url = f"sqlite:///{tmp_path}/locks.db"
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
    with ExitStack() as stack:
        yield Yard(url, tmp_path / "log", stack)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("on_conflict", ["skip", "wait", "join"])
def test_of_many_processes_one_runs_each_job(yard: Yard, on_conflict: str, asynchronous: bool) -> None:
    jobs = [f"job{n}" for n in range(10)]
    workers = [yard.worker(*jobs, on_conflict=on_conflict, once_per=300, asynchronous=asynchronous) for _ in range(4)]
    for worker in workers:
        worker.go()
    said = [[worker.hear() for _ in jobs] for worker in workers]
    assert yard.counts("start") == yard.counts("done") == dict.fromkeys(jobs, 1)
    for job, results in zip(jobs, zip(*said, strict=True), strict=True):
        ran = {result for result in results if result != "SKIPPED"}
        assert len(ran) == 1
        assert ran.pop().startswith(f"{job} by ")
        assert ("SKIPPED" in results) == (on_conflict != "join")


@pytest.mark.parametrize("on_conflict", ["wait", "join"])
def test_the_job_of_a_killed_process_is_taken_over(yard: Yard, on_conflict: str) -> None:
    victim = yard.worker("hold", on_conflict=on_conflict, once_per=300, ttl=1)
    other = yard.worker("hold", on_conflict=on_conflict, once_per=300, ttl=1)
    victim.go()
    victim.expect("holding")
    other.go()
    eventually(yard.waits("hold"))
    victim.process.send_signal(signal.SIGKILL)
    other.expect("holding")
    other.go()
    other.expect(f"hold by {other.process.pid}")
    # Started, unknown; started again, and completed once.
    assert yard.counts("start") == {"hold": 2}
    assert yard.counts("done") == {"hold": 1}


def test_a_process_that_was_stopped_for_too_long_learns_that_it_lost(yard: Yard) -> None:
    stopped = yard.worker("hold", on_conflict="wait", ttl=1)
    other = yard.worker("hold", on_conflict="wait", once_per=300, ttl=1)
    stopped.go()
    stopped.expect("holding")
    stopped.process.send_signal(signal.SIGSTOP)
    other.go()
    other.expect("holding")
    stopped.process.send_signal(signal.SIGCONT)
    stopped.go()
    stopped.expect(f"LeaseLost hold by {stopped.process.pid}")
    assert yard.client.inspect(f"{yard.prefix}:hold").holders, "who lost does not give back what another has"
    other.go()
    other.expect(f"hold by {other.process.pid}")


def test_at_least_outlives_the_process(yard: Yard) -> None:
    """The store keeps the name taken; nobody has to live for it."""
    first = yard.worker("job", at_least=300)
    first.go()
    first.expect(f"job by {first.process.pid}")
    assert first.process.wait(10) == 0
    second = yard.worker("job", at_least=300)
    second.go()
    second.expect("SKIPPED")


def test_forked_workers_share_the_work(yard: Yard) -> None:
    """As under prefork: decorated and used in the parent, then used in children that leave without atexit."""
    runs = yard.log

    @locksmith.run_once(yard.prefix + ":{job}", store=yard.url, once_per=300, on_conflict="wait")
    def work(job: str) -> None:
        with runs.open("a") as file:
            file.write(f"start {job} {os.getpid()}\n")

    work("warm-up")
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                for n in range(5):
                    work(f"job{n}")
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    assert yard.counts("start") == {"warm-up": 1} | {f"job{n}": 1 for n in range(5)}
