"""Chunked jobs between real processes: they share a job, are killed, are stopped for longer than their lease."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import locksmith
from locksmith.chunks import Job
from locksmith.testing.waiting import eventually

PROGRAM = Path(__file__).parent / "programs" / "job.py"
pytestmark = pytest.mark.native_threads
ALL = [(start, start + 5) for start in range(0, 200, 5)]


class Crew:
    """Processes on one job."""

    def __init__(self, url: str, log: Path, stack: ExitStack) -> None:
        self.url, self.log, self.name, self._stack = url, log, uuid.uuid4().hex, stack
        self.job = Job(stack.enter_context(locksmith.connect(url)), self.name)

    def start(self, *more: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), self.url, self.name, str(self.log), *map(str, more)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._stack.callback(_end, process)
        assert process.stdout.readline() == "ready\n"
        return process

    def go(self, *processes: subprocess.Popen[str]) -> None:
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()

    def noted(self, what: str) -> list[tuple[int, int, int, int, int]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [tuple(map(int, line.split()[1:])) for line in lines if line.split()[0] == what]


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(10)
    process.stdin.close()
    process.stdout.close()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def crew(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Crew]:
    url = f"sqlite:///{tmp_path}/locks.db"
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
    with ExitStack() as stack:
        yield Crew(url, tmp_path / "log", stack)


def test_processes_share_a_job(crew):
    """No chunk is done twice, none is left out, and whoever returns finds all of them finished."""
    processes = [crew.start() for _ in range(4)]
    crew.go(*processes)
    assert [process.stdout.readline() for process in processes] == ["done 40\n"] * 4
    assert Counter(line[1:3] for line in crew.noted("begin")) == dict.fromkeys(ALL, 1)
    assert Counter(line[1:3] for line in crew.noted("end")) == dict.fromkeys(ALL, 1)
    late = crew.start()
    crew.go(late)
    assert late.stdout.readline() == "done 40\n"
    assert len(crew.noted("begin")) == 40


def test_processes_that_are_killed(crew):
    """Two of them in the middle of a chunk: others begin that again under a higher token, and nothing else."""
    killed = [crew.start(3), crew.start(11)]
    crew.go(*killed)
    assert [process.wait(40) for process in killed] == [-signal.SIGKILL] * 2
    assert crew.job.progress().state == "running"
    heirs = [crew.start() for _ in range(2)]
    crew.go(*heirs)
    assert [process.stdout.readline() for process in heirs] == ["done 40\n"] * 2
    assert Counter(line[1:3] for line in crew.noted("end")) == dict.fromkeys(ALL, 1)
    begun = crew.noted("begin")
    twice = [number for number, times in Counter(line[0] for line in begun).items() if times > 1]
    assert len(twice) == 2
    for number in twice:
        first, second = [line for line in begun if line[0] == number]
        assert second[3] > first[3]


def test_a_job_resumes_after_everybody_was_killed(crew):
    for at in (2, 9, 20):
        killed = crew.start(at)
        crew.go(killed)
        assert killed.wait(40) == -signal.SIGKILL
    last = crew.start()
    crew.go(last)
    assert last.stdout.readline() == "done 40\n"
    assert Counter(line[1:3] for line in crew.noted("end")) == dict.fromkeys(ALL, 1)
    assert len(crew.noted("begin")) == 43


@pytest.mark.slow
def test_a_process_that_was_stopped_for_longer_than_its_lease(crew):
    """Its chunk is done by another; when it goes on, its own end of that chunk counts for nothing."""
    zombie = crew.start(-1, 7)
    crew.go(zombie)
    assert zombie.stdout.readline() == "stopping\n"
    os.kill(zombie.pid, signal.SIGSTOP)
    heir = crew.start()
    crew.go(heir)
    assert heir.stdout.readline() == "done 40\n"
    crew.go(zombie)
    os.kill(zombie.pid, signal.SIGCONT)
    assert zombie.stdout.readline() == "done 40\n"
    ends = Counter(line[1:3] for line in crew.noted("end"))
    assert ends == {**dict.fromkeys(ALL, 1), (35, 40): 2}  # its side effect is there twice: that is what tokens are for
    (first, second) = [line for line in crew.noted("begin") if line[0] == 7]
    assert second[3] > first[3]
    eventually(lambda: crew.job.progress().done == 40, within=10, what="nothing was counted twice")
