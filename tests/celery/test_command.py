"""`locksmith celery`, in a process of its own, against what publishing and workers have written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid

import pytest

import locksmith
from locksmith.celery.entries import Entry, Presence, here
from locksmith.celery.ledger import Ledger, Place

pytestmark = pytest.mark.native_threads


@pytest.fixture
def store(tmp_path):
    return f"sqlite:///{tmp_path}/locks.db"


@pytest.fixture
def ledger(store):
    with locksmith.connect(store) as client:
        yield Ledger(client, lambda: None)


def run(store, *words):
    command = [sys.executable, "-m", "locksmith", "celery", *words]
    environment = {**os.environ, "LOCKSMITH_URL": store}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def entry(state, **more):
    return Entry(str(uuid.uuid4()), "reports.build", state, here(), time.time() - 90, **more)


def test_nobody(store):
    done = run(store, "explain", "some key")
    assert (done.returncode, done.stdout) == (1, "nobody has some key: a call gets it\n")
    assert run(store, "clear", "some key").returncode == 1


def test_queued(store, ledger):
    queued = ledger.write(Place("k", "queue"), entry("queued"), None)
    done = run(store, "explain", "k")
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith(f"queue: task {queued.id} (reports.build) was published 9")
    assert last == f"an equal call is a duplicate of task {queued.id}"


@pytest.mark.parametrize(
    ("worker", "presence", "late", "words"),
    [
        ("w", True, False, "its worker counts as alive"),
        ("w", False, False, "the next equal call gets the key"),
        ("w", False, True, "will deliver the message again"),
        (None, False, False, "nobody can tell"),
    ],
)
def test_running(store, ledger, worker, presence, late, words):
    begun = ledger.write(Place("k", "queue"), entry("running", worker=worker, late=late, since=1.0), None)
    if presence:
        ledger.announce("w", Presence("w@host", here(), 2.0, frozenset([begun.id])), 60)
    done = run(store, "explain", "k")
    assert words in done.stdout, done
    told = json.loads(run(store, "explain", "k", "--json").stdout)
    assert told["entries"][0]["task_id"] == begun.id
    assert told["entries"][0]["free"] is ("gets the key" in words)


def test_running_and_queued(store, ledger):
    ledger.write(Place("k", "run"), entry("running", worker=None), None)
    queued = ledger.write(Place("k", "queue"), entry("queued"), None)
    done = run(store, "explain", "k")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()[:2]] == ["queue", "run"]
    cleared = json.loads(run(store, "clear", "k", "--yes", "--json").stdout)["cleared"]
    assert [one["part"] for one in cleared] == ["queue", "run"]
    assert cleared[0]["task_id"] == queued.id
    assert ledger.read(Place("k", "queue")) is None


def test_status(store, ledger):
    assert run(store, "status").returncode == 1
    ledger.write(Place("k1", "run"), entry("running", worker="w", since=1.0), None)
    queued = ledger.write(Place("k1", "queue"), entry("queued"), None)
    ledger.write(Place("k1", "queue2"), entry("queued"), None)
    ledger.write(Place("other", "queue"), entry("kept"), None)
    ledger.add_folds("k1", {queued.id: 12})
    told = json.loads(run(store, "status", "--json").stdout)["entries"]
    assert [(one["key"], one["part"], one["state"], one["folded"]) for one in told] == [
        ("k1", "queue", "queued", 12), ("k1", "queue2", "queued", 0), ("k1", "run", "running", 0),
        ("other", "queue", "kept", 0),
    ]  # fmt: skip
    done = run(store, "status", "k1")
    assert done.returncode == 0, done.stderr
    assert queued.id in "".join(done.stdout.split())
    assert "other" not in done.stdout
    explained = run(store, "explain", "k1").stdout
    assert "12 calls were folded into it" in explained
    assert "queue2: task" in explained


def test_clear_asks(store, ledger):
    ledger.write(Place("k", "queue"), entry("queued"), None)
    done = run(store, "clear", "k")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert ledger.read(Place("k", "queue")) is not None
    assert run(store, "clear", "k", "--yes").returncode == 0
    assert ledger.read(Place("k", "queue")) is None
