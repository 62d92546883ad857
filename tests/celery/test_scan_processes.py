"""`locksmith scan` as processes of its own, and the example of PDFs and pages, while everything is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

import locksmith
from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.native_threads, pytest.mark.timeout(150)]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pdf_pages"
SOON = 40.0
STUCK = """
import time, celery, locksmith.celery
app = celery.Celery("stuck", broker="memory://")

@locksmith.celery.scan(every=1, ttl=600, app=app)
def work():
    print("stuck", flush=True)
    time.sleep(600)
    yield
"""
ONCE = """
import celery, locksmith.celery
app = celery.Celery("once", broker="memory://")

@locksmith.celery.scan(every=1, app=app)
def work():
    return []

@locksmith.celery.scan(every=1, app=app)
def broken():
    raise RuntimeError("the database is away")
"""
LONG = 150.0


class Shop:
    """The example's processes, over one Redis and one database."""

    def __init__(self, folder, url, stack):
        self.folder, self.url, self._stack = folder, url, stack
        self.db = folder / "pages.db"
        self.env = {
            **os.environ, "LOCKSMITH_URL": url, "BROKER_URL": url, "PAGES_DB": str(self.db), "PAGES_EVERY": "0.5",
            "PAGES_TTL": "3", "PAGES_WORKER_TTL": "3", "PAGES_QUEUE_TTL": "5",
            "PYTHONPATH": os.pathsep.join([str(EXAMPLE), *filter(None, sys.path)]),
        }  # fmt: skip
        self.count = 0

    def start(self, *command):
        self.count += 1
        log = self.folder / f"process{self.count}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], env=self.env, cwd=self.folder, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        process.log = log
        self._stack.callback(self.kill, process)
        return process

    def scanner(self):
        return self.start("locksmith", "scan", "pages:unfinished", "-v")

    def worker(self):
        return self.start("celery", "-A", "pages", "worker", "-c", "2", "--without-gossip", "--without-mingle",
                          "-n", f"worker{self.count}@%h")  # fmt: skip

    def kill(self, process):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def run(self, *command):
        return subprocess.run(
            [sys.executable, "-m", *command], env=self.env, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def journal(self):
        """How often each page was begun, and completed."""
        with closing(sqlite3.connect(self.db, timeout=30)) as db:
            return Counter(db.execute("SELECT what, pdf, number FROM journal").fetchall())

    def completed(self):
        return len([one for one in self.journal() if one[0] == "completed"])


@pytest.fixture
def shop(tmp_path, start_redis):
    with ExitStack() as stack:
        yield Shop(tmp_path, start_redis().url, stack)


def walks(process):
    assert process.poll() is None, process.log.read_text()
    return "walks here" in process.log.read_text()


def test_what_is_told_to_end_resigns_at_once_and_another_walks(shop):
    shop.env["PAGES_TTL"] = "600"
    first = shop.scanner()
    eventually(lambda: walks(first), within=SOON, what="the first walks")
    second = shop.scanner()
    with locksmith.connect(shop.url) as client:
        eventually(lambda: client.inspect("scan:pages.unfinished").waiters, within=SOON, what="the second stands by")
    assert not walks(second)
    once = shop.run("locksmith", "scan", "pages:unfinished", "--once")
    assert (once.returncode, once.stdout) == (1, "")
    first.terminate()
    assert first.wait(SOON) == 0, first.log.read_text()
    eventually(lambda: walks(second), within=SOON, what="the second walks, long before a ttl has passed")
    second.terminate()
    assert second.wait(SOON) == 0, second.log.read_text()
    assert shop.run("pages", "add", "report.pdf", "3").returncode == 0
    once = shop.run("locksmith", "scan", "pages:unfinished", "--once", "--json")
    assert json.loads(once.stdout) == {"found": 1, "enqueued": 1, "deep": False}, once.stderr


def test_a_walk_that_waits_for_its_database_does_not_keep_others_waiting(shop):
    (shop.folder / "stuck.py").write_text(STUCK)
    shop.env["PYTHONPATH"] += f"{os.pathsep}{shop.folder}"
    first = shop.start("locksmith", "scan", "stuck:work")
    eventually(lambda: "stuck" in first.log.read_text(), within=SOON, what="the walk is stuck")
    first.terminate()
    assert first.wait(SOON) == 0, first.log.read_text()
    with locksmith.connect(shop.url) as client:
        assert client.inspect("scan:stuck.work").holders == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["pages"], "module:function"),
        (["nowhere:unfinished"], "there is no module nowhere"),
        (["pages:split"], "decorate the function"),
        (["pages:unfinished", "--namespace", "other"], "leave --namespace out"),
    ],
)
def test_what_is_no_scanner(tmp_path, words, why):
    done = Shop(tmp_path, f"sqlite:///{tmp_path}/locks.db", None).run("locksmith", "scan", *words)
    assert done.returncode == 2
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_once_says_how_it_ended(tmp_path):
    (tmp_path / "once.py").write_text(ONCE)
    shop = Shop(tmp_path, f"sqlite:///{tmp_path}/locks.db", None)
    done = shop.run("locksmith", "scan", "once:work", "--once")
    assert (done.returncode, done.stdout) == (0, "0 found, 0 enqueued\n")
    failed = shop.run("locksmith", "scan", "once:broken", "--once")
    assert failed.returncode == 2
    assert "once.broken could not walk to the end" in failed.stderr
    assert "the database is away" in failed.stderr
    with locksmith.connect(shop.url) as client, client.lock("scan:once.work").acquire():
        other = shop.run("locksmith", "scan", "once:work", "--once")
    assert (other.returncode, other.stdout) == (1, "")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_page_is_completed_once_whatever_is_killed(shop):
    for number in range(4):
        assert shop.run("pages", "add", f"{number}.pdf", "8").returncode == 0
    shop.env["PAGES_SECONDS"] = "0.3"
    scanners = [shop.scanner(), shop.scanner()]
    workers = [shop.worker(), shop.worker()]
    eventually(lambda: shop.completed() >= 4, within=LONG, what="it has begun")
    shop.kill(workers[0])
    (leader,) = [one for one in scanners if walks(one)]
    shop.kill(leader)
    workers.append(shop.worker())
    seen = shop.completed()
    eventually(lambda: shop.completed() >= min(seen + 6, 32), within=LONG, what="it goes on")
    shop.kill(workers[1])
    scanners.append(shop.scanner())
    eventually(lambda: shop.completed() == 32, within=LONG, what="all pages are done")
    journal = shop.journal()
    assert {count for (what, *_), count in journal.items() if what == "completed"} == {1}
    # Walked every half second, and yet nothing is begun twice but what was lost, and has come back.
    begun = sum(count for (what, *_), count in journal.items() if what == "begun")
    assert 32 <= begun <= 32 + 2 * 4
