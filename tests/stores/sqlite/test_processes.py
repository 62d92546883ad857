"""Many real processes on one file: exclusion, death in the middle of a transaction, forks."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import locksmith
from locksmith.runtime import drive

Start = Callable[..., "subprocess.Popen[str]"]


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tell(process: subprocess.Popen[str], line: str = "go on") -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def test_many_processes_one_counter(start_worker: Start, tmp_path: Path) -> None:
    """P1, P2: no update is lost, and tokens grow. All processes also race to create the file and its tables."""
    counter = tmp_path / "counter"
    counter.write_text("0 0")
    workers = [start_worker("count", counter, 50) for _ in range(8)]
    assert [worker.wait(60) for worker in workers] == [0] * 8
    assert counter.read_text().split()[0] == "400"


def test_never_more_holders_than_permits(start_worker: Start, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    workers = [start_worker("share", inside, 40) for _ in range(5)]
    assert [worker.wait(60) for worker in workers] == [0] * 5


def test_killed_in_the_middle_of_a_transaction(start_worker: Start, path: Path) -> None:
    """What was not committed never happened, and nobody stays locked out of the file."""
    worker = start_worker("die_writing")
    assert _said(worker) == "writing"
    with locksmith.connect(f"sqlite:///{path}?timeout=0.3", namespace="test") as client:
        with pytest.raises(locksmith.StoreUnavailable, match="try again"):
            client.lock("other").try_acquire()
        worker.kill()
        worker.wait()
        began = time.monotonic()
        assert client.lock("other").try_acquire() is not None
        assert time.monotonic() - began < 1
        assert client.lock("before").try_acquire() is None, (
            "what the dead process held before is held until its ttl ends"
        )
        assert all(finding.level == "ok" for finding in client.diagnose() if "sound" in finding.what)


def test_killed_holder_is_replaced_after_its_ttl(start_worker: Start, path: Path) -> None:
    """P8: one ttl after its death, and not much later."""
    worker = start_worker("hold", "x", 1.0)
    token = int(_said(worker))
    worker.kill()
    began = time.monotonic()
    with locksmith.connect(f"sqlite:///{path}", namespace="test") as client:
        lease = client.lock("x").acquire(wait=10)
        assert lease.token > token
        assert time.monotonic() - began < 2


def test_stopped_holder_blocks_nobody_for_longer_than_its_ttl(start_worker: Start, path: Path) -> None:
    worker = start_worker("hold", "x", 0.5)
    _said(worker)
    worker.send_signal(signal.SIGSTOP)
    with locksmith.connect(f"sqlite:///{path}", namespace="test") as client:
        assert client.lock("x").acquire(wait=10).held
    worker.send_signal(signal.SIGCONT)


def test_fork_with_open_connections(start_worker: Start, path: Path) -> None:
    """The parent closes its connections, the last ones it has, while the child uses the file; neither harms the other.

    With connections inherited through the fork the child's new ones rely on file locks that only the parent has: its
    last close then deletes the log under the child, whose leases nobody else sees from there on.
    """
    worker = start_worker("fork")
    assert _said(worker).startswith("child ")
    assert _said(worker) == "parent closed"
    with locksmith.connect(f"sqlite:///{path}", namespace="test") as other:
        assert other.lock("child").try_acquire() is None, "the child's lease is invisible"
    _tell(worker, "parent closed")
    assert _said(worker) == "child still holds True"
    with locksmith.connect(f"sqlite:///{path}", namespace="test") as other:
        assert other.lock("child").try_acquire() is None
        assert other.lock("parent").try_acquire() is None
    _tell(worker)
    assert worker.wait(10) == 0
    with locksmith.connect(f"sqlite:///{path}", namespace="test") as other:
        assert other.lock("child").try_acquire() is not None


def test_no_connection_crosses_a_fork(open_store: Any, claim: Any) -> None:
    store = open_store()
    drive(store.acquire(claim(), queue=False))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            open_files = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
            os.write(write, b"clean" if not any("locks.db" in name for name in open_files) else b"inherited")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"clean"
    os.close(read)
    os.close(write)
    assert drive(store.acquire(claim("b"), queue=False)) is not None, "the parent goes on"


@pytest.mark.native_threads  # a greenlet that only computes lets nobody else run
def test_fork_while_threads_work(open_store: Any, claim: Any) -> None:
    """A fork waits for the transaction under way; the child gets locks that nobody holds."""
    store = open_store()
    done = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        while not done.is_set():
            try:
                grant = drive(store.acquire(claim("busy"), queue=False))
                assert drive(store.release(grant))
            except BaseException as error:
                failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                code = 1
                signal.alarm(10)  # a lock that was inherited held would hang us
                try:
                    code = 0 if drive(store.acquire(claim(f"child{os.getpid()}"), queue=False)) else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        thread.join()
    assert not failed


def test_two_stores_in_one_process_on_one_file(open_store: Any, claim: Any) -> None:
    """Each has connections of its own; one sees what the other does, also while waiting."""
    first, second = open_store(), open_store()
    grant = drive(first.acquire(claim(), queue=False))
    assert drive(second.acquire(claim(), queue=False)) is None
    ticket = drive(second.acquire(claim(), queue=True))
    threading.Timer(0.1, lambda: drive(first.release(grant))).start()
    began = time.monotonic()
    drive(second.wait(ticket, 5))
    assert time.monotonic() - began < 1
    assert ticket.inbox.peek().token > grant.token


def test_closing_one_store_leaves_the_locks_of_another(open_store: Any, claim: Any, start_worker: Start) -> None:
    """Closing any descriptor of a file drops a process's POSIX locks on it; SQLite minds that, and so do we."""
    first, second = open_store(), open_store()
    drive(first.acquire(claim(), queue=False))
    drive(second.acquire(claim("b"), queue=False))
    drive(first.close())
    worker = start_worker("pairs", "c", 3)
    assert worker.wait(20) == 0
    assert drive(second.inspect("c")).token
    assert drive(second.inspect("b")).holders
