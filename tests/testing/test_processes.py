"""Worker processes, forked in a nursery or started as programs: what cases of the contract rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from locksmith.testing import nursery
from locksmith.testing.processes import Worker, WorkerError, _state
from locksmith.testing.waiting import eventually

pytestmark = pytest.mark.native_threads


@pytest.fixture(params=["nursery", "program"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "program":
        monkeypatch.setattr(nursery, "possible", lambda: False)
    elif not nursery.possible():
        pytest.skip("processes are forked like that on Linux only")


@pytest.mark.parametrize("runtime", ["blocking", "asyncio"])
def test_it_answers_and_ends_with_its_status(runtime: str) -> None:
    with Worker("memory://", runtime=runtime) as worker:
        assert worker.ask("try_acquire", name="x") > 0
        with pytest.raises(WorkerError) as error:
            worker.ask("check", name="y")
        assert error.value.name == "KeyError"
        worker.tell("leave")
        assert worker.wait() == 0
        assert worker.complaints() == ""


def test_each_is_a_process_of_its_own() -> None:
    with Worker("memory://") as one, Worker("memory://") as other:
        assert len({one.pid, other.pid, os.getpid()}) == 3
        assert one.ask("try_acquire", name="x")
        assert other.ask("try_acquire", name="x"), "memory:// lives in one process"


def test_signals_arrive_and_tell_how_it_ended() -> None:
    with Worker("memory://") as worker:
        worker.send_signal(signal.SIGSTOP)
        worker.tell("try_acquire", name="x")
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.05)
        assert not worker.answered()
        worker.send_signal(signal.SIGCONT)
        assert worker.answer()
        worker.kill()
        assert worker.wait() == -signal.SIGKILL


def test_what_it_complains_of_is_told() -> None:
    with Worker("sqlite:////nowhere/at/all.db") as worker, pytest.raises(WorkerError):
        worker.ask("try_acquire", name="x")
    with pytest.raises(AssertionError, match="nostore"):
        Worker("nostore://")


def test_it_works_in_the_folder_of_its_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Worker("sqlite:///here.db") as worker:
        assert worker.ask("try_acquire", name="x")
    assert (tmp_path / "here.db").exists()


def test_it_ends_when_its_starter_is_gone() -> None:
    program = """
import os, signal
from locksmith.testing import nursery
from locksmith.testing.processes import Worker
if {program}: nursery.possible = lambda: False
print(Worker("memory://").pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = os.pathsep.join(word for word in sys.path if word)
    done = subprocess.run(
        [sys.executable, "-c", program.format(program=not nursery.possible())],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    eventually(lambda: _state(pid) in ("", "Z"), within=20, what="the worker has ended")
