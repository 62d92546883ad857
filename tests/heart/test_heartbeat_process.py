"""heartbeat="process": what starves the threads of a process does not end its leases (fault F15, promise P4)."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import locksmith
from locksmith.engine.heart import SLOTS
from locksmith.testing import eventually

TTL = 1.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/heart.db"


def hold_the_gil(seconds: float) -> None:
    """A C call that does not let go of the GIL: PyDLL, unlike CDLL, keeps it."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def heart_of(client: locksmith.Client) -> int:
    child = client._engine.heart._child
    assert child is not None
    return child.pid


def test_a_lease_survives_a_gil_held_beyond_its_ttl(url: str) -> None:
    with locksmith.connect(url, ttl=TTL, heartbeat="process") as client:
        lease = client.lock("x").acquire()
        # The child takes longer to start on a busy machine than this ttl lasts; until then our keeper renews.
        eventually(lambda: lease._hold.pulse is not None and (lease._hold.pulse() or 0) > 0, within=30)
        hold_the_gil(TTL * 2.5)
        assert lease.held
        lease.check()
        assert lease.remaining() > 0
        assert lease.release() is True


def test_a_thread_cannot_do_that_and_says_so(url: str) -> None:
    with locksmith.connect(url, ttl=TTL) as client:
        lease = client.lock("x").acquire()
        hold_the_gil(TTL * 1.5)
        assert not lease.held
        with pytest.raises(locksmith.LeaseLost):
            lease.release()


def test_released_leases_are_renewed_no_more_and_slots_are_reused(url: str) -> None:
    with locksmith.connect(url, ttl=TTL, heartbeat="process") as client, locksmith.connect(url) as other:
        for _ in range(50):
            assert client.lock("x").acquire().release()
        assert len(client._engine.heart._free) == SLOTS
        with other.lock("x").acquire(wait=0) as lease:
            assert lease.held


def test_an_evicted_lease_is_lost_though_the_heart_beats(url: str) -> None:
    with locksmith.connect(url, ttl=TTL, heartbeat="process") as client, locksmith.connect(url) as other:
        lease = client.lock("x").acquire()
        assert other.evict("x", lease.token)
        assert lease.lost.wait(TTL * 2)


def test_the_keeper_takes_over_from_a_dead_heart(url: str) -> None:
    with locksmith.connect(url, ttl=TTL, heartbeat="process") as client:
        lease = client.lock("x").acquire()
        os.kill(heart_of(client), signal.SIGKILL)
        assert not lease.lost.wait(TTL * 2.5)
        assert lease.held


HOLDER = """
import os, sys, time, locksmith
client = locksmith.connect(sys.argv[1], ttl=1.0, heartbeat="process")
lease = client.lock("x").acquire()
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(60)
    os._exit(0)
print(client._engine.heart._child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("mode", ["plain", "fork"])
def test_the_heart_ends_with_its_process(url: str, mode: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, mode], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert holder.stdout is not None
    heart = int(holder.stdout.readline())
    try:
        holder.kill()
        holder.wait()
        eventually(lambda: not alive(heart), within=5)
        with locksmith.connect(url) as client:
            assert client.lock("x").acquire(wait=TTL + 3).release()
    finally:
        os.killpg(holder.pid, signal.SIGKILL) if mode == "fork" else None
        holder.stdout.close()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("target", ["memory://", object()])
def test_stores_that_a_child_cannot_reach_are_refused(target: object) -> None:
    with pytest.raises(locksmith.ConfigurationError):
        locksmith.connect(target, heartbeat="process")


def test_an_unknown_heartbeat_is_refused() -> None:
    with pytest.raises(locksmith.ConfigurationError, match="thread"):
        locksmith.connect("memory://", heartbeat="pulse")


def test_a_child_that_starts_late_takes_its_part_all_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears of a lease longer ago than its ttl, which our keeper has renewed meanwhile."""
    with locksmith.connect(url, ttl=TTL, heartbeat="process") as client:
        client.lock("warm").acquire().release()
        heart = client._engine.heart
        assert heart is not None
        say, held_back = heart._say, []
        monkeypatch.setattr(heart, "_say", lambda order: held_back.append(order) or True)
        lease = client.lock("x").acquire()
        assert not lease.lost.wait(TTL * 1.5)
        for order in held_back:
            assert say(order)
        eventually(lambda: (lease._hold.pulse() or 0) > 0, within=10)
        monkeypatch.undo()


def test_a_store_whose_claims_nobody_else_can_prolong_is_refused() -> None:
    """ZooKeeper: the child would be told "unknown" for ever, and nobody would know that it is of no use."""
    pytest.importorskip("kazoo")
    with pytest.raises(locksmith.ConfigurationError, match="no other process can prolong it"):
        locksmith.connect("zookeeper://127.0.0.1:1", heartbeat="process")
    locksmith.connect("zookeeper://127.0.0.1:1").close()
