"""Chunked jobs whatever happens: lost answers at each place, and events in any order."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
from chunksite import Site, new, work
from hypothesis import given, settings
from hypothesis import strategies as some

import locksmith
from locksmith.errors import StoreUnavailable
from locksmith.memory import MemoryStore
from locksmith.recipes import chunk_worker
from locksmith.recipes.chunk_worker import Rules
from locksmith.runtime import Blocking, drive
from locksmith.testing.faults import FaultyStore, client_over


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("eager", [True, False])
def test_a_request_that_fails_or_loses_its_answer(when, eager, monkeypatch):
    """At each place, one after the other: every chunk is run once and finished once."""
    monkeypatch.setattr(chunk_worker, "_LONGEST", 0.002)
    place, met = 0, [None]
    while met:
        place += 1
        store = FaultyStore(MemoryStore.from_url(new(), runtime=Blocking(), namespace="t"))
        with client_over(store) as client:
            site = Site(client)
            worker = site.worker()
            met = store.fail_at(place, when, lambda: StoreUnavailable("lost for a test"))
            assert work(worker, eager=eager) == [(0, 3), (3, 6), (6, 9), (9, 10)], (place, met)
            assert (worker.finished, worker.lost) == (4, 0)
            store.before = store.after = None
            assert (site.record().state, site.record().done) == ("done", 4)
    assert place > 5


STEPS = some.lists(
    some.tuples(some.sampled_from(["claim", "finish", "eager", "fail", "crash", "evict", "pause", "cancel?"]),
                some.integers(0, 3)),
    max_size=60,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(STEPS, some.integers(0, 20), some.integers(1, 4))
def test_any_order_of_events(steps, end, size):
    """Whatever workers do or suffer, in the end each place was finished in exactly one chunk, as the record says."""
    with locksmith.connect(new()) as client:
        site = Site(client, end=end, size=size, retries=100)
        workers = [site.worker() for _ in range(4)]
        hands, finished = {}, Counter()
        for what, which in steps:
            worker = workers[which]
            _step(site, worker, what, which, hands, finished)
        drive(site.job.resume())
        for which, worker in enumerate(workers):
            _step(site, worker, "finish", which, hands, finished)
        last = site.worker()
        last.rules = Rules()
        for worker in workers:
            drive(worker.leave())
        while (chunk := drive(last.claim())) is not None:
            drive(last.finish(claim=True))
            finished[chunk.start, chunk.end] += 1
        assert all(times == 1 for times in finished.values()), finished
        covered = sorted(number for chunk in finished for number in range(*chunk))
        assert covered == list(range(end))
        assert (site.record().state, site.record().done) == ("done", len(finished))


def _step(site, worker, what, which, hands, finished):
    if what == "claim" and which not in hands:
        chunk = drive(worker.claim())
        if chunk is not None:
            hands[which] = chunk
    elif what in ("finish", "eager") and which in hands:
        chunk, before = hands.pop(which), worker.finished
        drive(worker.finish(claim=what == "eager"))
        finished[chunk.start, chunk.end] += worker.finished - before
        if worker._fresh:
            hands[which] = drive(worker.claim())
    elif what == "fail" and which in hands:
        hands.pop(which)
        drive(worker.failed(ValueError()))
    elif what == "crash":
        hands.pop(which, None)
        drive(worker.leave())
    elif what == "evict" and worker.hold is not None:
        with suppress(AssertionError):
            site.evict(worker)
    elif what == "pause":
        drive(site.job.pause() if which else site.job.resume())
