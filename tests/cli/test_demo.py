"""The demo, as its reader runs it: real processes, a real SIGKILL, and nothing left behind."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest

from locksmith.cli.demo_ledger import COMPLETED, STARTED, Ledger, StaleToken
from locksmith.testing import eventually

pytestmark = [pytest.mark.native_threads, pytest.mark.timeout(120)]

KEYS = ["store", "jobs", "completed_once", "completed_twice", "lost", "started", "takeovers", "seconds"]


def assert_held(done, jobs: int) -> None:
    assert done.status == 0, (done.out, done.err)
    result = done.last_json
    assert list(result) == KEYS
    counted = {key: result[key] for key in KEYS[1:-1]}
    assert counted == {
        "jobs": jobs,
        "completed_once": jobs,
        "completed_twice": 0,
        "lost": 0,
        "started": jobs + 1,
        "takeovers": 1,
    }


@pytest.mark.slow
def test_demo_on_the_embedded_store(cli):
    done = cli("demo", "--json", timeout=100)
    assert_held(done, 10)
    assert done.last_json["store"] == f"sqlite:///{cli.state}/locksmith/locksmith.db"
    for told in ("was killed with SIGKILL in the middle of", "over, with a greater token", "exactly once"):
        assert told in done.err


def test_demo_for_people(cli, store):
    done = cli("demo", "--jobs", "3", "--workers", "3", "--store", store, timeout=100)
    assert (done.status, done.err) == (0, "")
    assert "3 of 3 jobs were completed exactly once, 0 more than once, 0 never. There were 4 starts" in done.out
    assert "\x1b" not in done.out
    # Again, on the same store: yesterday's completion records are not today's.
    assert cli("demo", "--jobs", "1", "--workers", "2", "--store", store, timeout=100).status == 0


@pytest.mark.redis
def test_demo_on_redis(cli, redis_server, namespace):
    done = cli("demo", "--jobs", "4", "--json", "--store", redis_server.url, "--namespace", namespace, timeout=100)
    assert_held(done, 4)


def test_demo_refuses_a_store_that_processes_cannot_share(cli):
    done = cli("demo", "--store", "memory://")
    assert (done.status, done.out) == (2, "")
    assert "one process" in done.error


def workers_of(demo: int) -> list[int]:
    """Worker processes of this demo that live."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, _, rest = status.read_text().rpartition(")")
            state, parent = rest.split()[:2]
            if int(parent) == demo and state != "Z":
                found.append(int(status.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_no_worker_outlives_the_demo(cli, store, number):
    demo = cli.start("demo", "--workers", "3", "--store", store)
    try:
        while "completed" not in (line := demo.stdout.readline()):
            assert line, demo.stderr.read()
        workers = workers_of(demo.pid)
        assert workers
        demo.send_signal(number)
        out, err = demo.communicate(timeout=20)
        assert demo.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
        assert err == ""
        assert "exactly once" not in out
        eventually(lambda: not any(lives(worker) for worker in workers), what="all workers end")
    finally:
        demo.kill()
        demo.communicate()


def lives(pid: int) -> bool:
    try:
        return "demo_worker" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


@pytest.mark.redis
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
def test_workers_get_the_url_but_not_as_an_argument(cli, start_redis):
    server = start_redis(password="hunter2")
    cli.env["LOCKSMITH_URL"] = server.url
    demo = cli.start("demo", "--workers", "2", "--jobs", "2")
    try:
        while "completed" not in (line := demo.stdout.readline()):
            assert line, demo.stderr.read()
        for worker in workers_of(demo.pid):
            assert "hunter2" not in Path(f"/proc/{worker}/cmdline").read_text()
    finally:
        demo.kill()
        out, err = demo.communicate()
    assert "hunter2" not in out + err


def test_ledger_compares_tokens(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.entries() == []
    ledger.write(STARTED, "a", 5, 1)
    ledger.write(STARTED, "a", 7, 2)
    ledger.write(STARTED, "b", 1, 3)
    with pytest.raises(StaleToken):
        ledger.write(COMPLETED, "a", 5, 1)
    ledger.write(COMPLETED, "a", 7, 2)
    ledger.write(COMPLETED, "a", 7, 2)
    assert ledger.count(STARTED) == {"a": 2, "b": 1}
    assert ledger.count(COMPLETED) == {"a": 2, "b": 0}, "it counts what was done twice, it does not hide it"


def test_ledger_ignores_a_line_that_is_being_written(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    ledger.write(STARTED, "a", 5, 1)
    with ledger.path.open("a") as file:
        file.write('["completed", "a"')
    assert ledger.count(COMPLETED) == {"a": 0}
    assert ledger.path.stat().st_mode & 0o77 == 0
