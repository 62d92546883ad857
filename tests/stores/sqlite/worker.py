"""What the processes of these tests do. Run as a script: worker.py URL TASK [ARGUMENT...]."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import locksmith
from locksmith.runtime import drive


def count(url: str, file: str, times: str) -> None:
    """Read, pause, write: only exclusion keeps the counter right."""
    counter = Path(file)
    with locksmith.connect(url, namespace="test") as client:
        lock = client.lock("counter", ttl=10)
        for _ in range(int(times)):
            with lock.acquire(wait=60) as lease:
                value, token = map(int, counter.read_text().split())
                assert lease.token > token, "tokens must grow"
                time.sleep(0)
                counter.write_text(f"{value + 1} {lease.token}")


def share(url: str, file: str, times: str) -> None:
    """Hold one of two permits, and never see a third holder."""
    inside = Path(file)
    with locksmith.connect(url, namespace="test") as client:
        semaphore = client.semaphore("pair", limit=2, ttl=10)
        for _ in range(int(times)):
            with semaphore.acquire(wait=60):
                mine = inside / str(os.getpid())
                mine.touch()
                assert len(list(inside.iterdir())) <= 2, "more holders than permits"
                mine.unlink()


def die_writing(url: str) -> None:
    """Stop in the middle of a transaction that has changed pages, and wait to be killed."""
    client = locksmith.connect(url, namespace="test")
    lease = client.lock("before", ttl=10).acquire(wait=0)
    assert lease.held
    desk = client._engine.store._desk  # type: ignore[attr-defined]

    def work(ledger: object) -> None:
        ledger.cursor.execute("PRAGMA cache_spill = 1")  # type: ignore[attr-defined]
        ledger.cursor.execute("UPDATE test_lease SET owner = 'nobody'")  # type: ignore[attr-defined]
        ledger.cursor.execute("CREATE TABLE junk AS SELECT randomblob(9000000)")  # type: ignore[attr-defined]
        print("writing", flush=True)
        time.sleep(60)

    desk.transact(work)


def hold(url: str, name: str, ttl: str) -> None:
    """Hold a name until told to go on."""
    with locksmith.connect(url, namespace="test") as client:
        lease = client.lock(name, ttl=float(ttl)).acquire(wait=10)
        print(lease.token, flush=True)
        sys.stdin.readline()
        lease.release()


def fork(url: str) -> None:
    """Fork with connections open; the parent closes its own while the child goes on."""
    client = locksmith.connect(url, namespace="test")
    lease = client.lock("parent", ttl=10).acquire(wait=0)
    child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(20)
        try:
            assert not lease.held
            # Taken in the child while its parent lives, after it has closed everything, and after it is gone.
            mine = client.lock("child", ttl=10).acquire(wait=0)
            print("child", mine.token, flush=True)
            assert sys.stdin.readline() == "parent closed\n"
            assert client.lock("parent").try_acquire() is not None
            print("child still holds", mine.held, flush=True)
            sys.stdin.readline()
            mine.release()
            client.close()
            code = 0
        finally:
            os._exit(code)
    assert lease.held
    time.sleep(0.3)
    lease.release()
    client.close()
    print("parent closed", flush=True)
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def wait_cpu(url: str, seconds: str) -> None:
    """Wait for a name that somebody holds, and say how much CPU that took."""
    with locksmith.connect(url, namespace="test") as client:
        lock = client.lock("held")
        lock.try_acquire()
        before = time.process_time()
        try:
            lock.acquire(wait=float(seconds))
        except locksmith.AcquireTimeout:
            print(time.process_time() - before, flush=True)


def pairs(url: str, name: str, times: str) -> None:
    """Take and give back, and print every token."""
    with locksmith.connect(url, namespace="test") as client:
        for _ in range(int(times)):
            with client.lock(name).acquire(wait=30) as lease:
                print(lease.token, flush=True)


def read_cell(url: str, key: str) -> None:
    """Print a cell."""
    with locksmith.connect(url, namespace="test") as client:
        cell = drive(client._engine.store.get(key))
        print(cell.value.decode() if cell else None, flush=True)


if __name__ == "__main__":
    globals()[sys.argv[2]](sys.argv[1], *sys.argv[3:])
