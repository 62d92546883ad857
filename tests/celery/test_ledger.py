"""When a key is free: the evidence, case by case, without Celery."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

import pytest

import locksmith
from locksmith.celery.entries import Entry, Presence, here, host_clock
from locksmith.celery.ledger import Ledger, Place, is_alive
from locksmith.errors import CellConflict, ConfigurationError, GuaranteeMissing
from locksmith.runtime import drive

PLACE = Place("a key", "queue")


@pytest.fixture
def ledger():
    with locksmith.connect("memory://", namespace=uuid.uuid4().hex) as client:
        yield Ledger(client, lambda: "me", fresh=0.0)


def running(worker: str | None = "other", *, late: bool = False, since: float = 100.0, by: str = "host:1") -> Entry:
    return Entry("id", "task", "running", by, time.time(), worker, late, since)


def listed(*ids: str, at: float = 200.0) -> Presence:
    return Presence("worker@host", "host:1", at, frozenset(ids))


@pytest.mark.parametrize("state", ["queued", "kept"])
def test_what_is_not_running_is_never_free(ledger, state):
    assert not ledger.is_vacant(Entry("id", "task", state, "host:1", time.time()))


@pytest.mark.parametrize(
    ("presence", "free", "free_late", "free_apart"),
    [
        (None, True, False, True),  # the worker is dead: what it had not acknowledged comes again
        (listed("id"), False, False, False),  # it runs
        (listed("other"), True, True, True),  # its worker lives and does not have it: it has ended there
        (listed("other", at=50.0), False, False, False),  # a list from before it began says nothing
        (Presence("worker", "host:1", 200.0, None), False, False, False),  # too many to list
    ],
)
def test_running_elsewhere(ledger, presence, free, free_late, free_apart):
    if presence is not None:
        ledger.announce("other", presence, 60)
    assert ledger.is_vacant(running()) is free
    assert ledger.is_vacant(running(late=True)) is free_late
    assert ledger.is_vacant(running(late=True), redelivered=False) is free_apart


def test_nothing_is_known_of_a_process_that_is_no_worker(ledger):
    assert not ledger.is_vacant(running(None))


def test_running_in_this_process(ledger):
    ledger.announce("me", listed("id"), 60)
    entry = running("me", by=here())
    ledger.began(entry)
    assert not ledger.is_vacant(entry)
    ledger.ended(entry)
    assert ledger.is_vacant(entry)


def test_another_delivery_of_the_call_that_asks(ledger):
    """Its worker lists the id because of the delivery that asks, so only the process can tell."""
    ledger.announce("me", listed("id"), 60)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    entry = running("me", by=here(child.pid))
    assert not ledger.is_over(entry, mine=True)
    child.kill()
    # killed, and not reaped yet: it runs no more
    while is_alive(child.pid):
        time.sleep(0.001)
    assert ledger.is_over(entry, mine=True)
    assert child.stdin is not None
    child.stdin.close()
    child.wait()


def test_a_process_that_never_was():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not is_alive(child.pid)
    assert is_alive(os.getpid())


def test_a_worker_is_believed_for_a_moment(ledger):
    ledger._fresh = 60.0
    ledger.announce("other", listed("id"), 60)
    assert ledger.presence("other") == listed("id")
    ledger.leave("other")
    assert ledger.presence("other") is not None
    ledger._seen.clear()
    assert ledger.presence("other") is None


def test_only_one_of_many_writes(ledger):
    queued = Entry("id", "task", "queued", here(), time.time())
    first = ledger.write(PLACE, queued, None)
    with pytest.raises(CellConflict):
        ledger.write(PLACE, queued, None)
    second = ledger.write(PLACE, running(), first)
    with pytest.raises(CellConflict):
        ledger.write(PLACE, running(), first)
    assert not ledger.erase(PLACE, first)
    assert ledger.read(PLACE) == second
    assert ledger.erase(PLACE, second)


def test_what_is_erased_of_a_call(ledger):
    ledger.write(PLACE, running(by="host:5"), None)
    assert not ledger.erase_of(PLACE, "another")
    assert not ledger.erase_of(PLACE, "id", begun=False)
    assert not ledger.erase_of(PLACE, "id", by="host:6")
    assert ledger.erase_of(PLACE, "id", by="host:5")
    assert not ledger.erase_of(PLACE, "id")


def test_requeued(ledger):
    queued = Entry("id", "task", "queued", here(), time.time())
    ledger.requeue(PLACE, "id", lambda: queued)
    assert ledger.read(PLACE) is None
    ledger.write(PLACE, running(), None)
    ledger.requeue(PLACE, "another", lambda: queued)
    assert ledger.read(PLACE).state == "running"
    ledger.requeue(PLACE, "id", lambda: queued)
    assert ledger.read(PLACE).state == "queued"


@pytest.mark.parametrize("raw", [b"x", b"{}", b'{"v":2}', b'["v"]'])
def test_what_another_version_wrote_is_nobodys_to_take(ledger, raw):
    drive(ledger._engine.store.put(PLACE.cell, raw))
    with pytest.raises(ConfigurationError, match="not written by this version"):
        ledger.read(PLACE)
    assert Presence.load(raw).ids is None  # alive, and no more


@pytest.mark.parametrize("skew", [-86400.0, 86400.0])
def test_workers_whose_clocks_differ(ledger, monkeypatch, skew):
    """No wall clock counts, and a worker's own clock is compared with itself alone: the store's ends its ttl."""
    now = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + skew)
        written = [running("beats"), running("silent"), running("rebooted", since=5.0)]
        ledger.announce("beats", listed("id"), 60)
        ledger.announce("rebooted", listed("other", at=6.0), 60)
        there = [ledger.is_vacant(entry) for entry in written]
    assert there == [ledger.is_vacant(entry) for entry in written] == [False, True, True]
    assert written[0].age >= 0


def test_the_clock_of_a_host_goes_on():
    assert host_clock() <= host_clock()


def test_a_store_without_cells_is_refused():
    with (
        locksmith.connect("redis+quorum://h1:1,h2:1,h3:1/0") as client,
        pytest.raises(GuaranteeMissing, match="CELLS"),
    ):
        Ledger(client, lambda: None)
