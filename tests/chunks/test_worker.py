"""The job itself: chunks are handed out once, finished once, taken over, and steered; also where answers get lost."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from chunksite import Site, new, work

import locksmith
from locksmith.errors import ChunkFailed, ConfigurationError
from locksmith.memory import MemoryStore
from locksmith.recipes.chunk_record import Record
from locksmith.recipes.chunk_worker import Rules
from locksmith.recipes.ranges import dates, ints
from locksmith.runtime import Blocking, drive
from locksmith.testing.clock import VirtualClock
from locksmith.testing.faults import FaultyStore, client_over


@pytest.fixture
def site(client: locksmith.Client) -> Site:
    return Site(client)


@pytest.mark.parametrize("eager", [True, False])
def test_one_worker_walks_it_all(site, eager):
    worker = site.worker()
    assert work(worker, eager=eager) == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert worker.finished == 4
    record = site.record()
    assert (record.state, record.done, record.finished, record.fraction, record.left(0)) == ("done", 4, 10, 1.0, 0.0)
    assert record.lanes == {}
    assert work(site.worker()) == []  # done is done


def test_a_chunk_costs_one_request(client):
    store = FaultyStore(MemoryStore.from_url(new(), runtime=Blocking(), namespace="t"))
    with client_over(store) as client:
        site = Site(client, end=1000, size=1)
        worker = site.worker()
        drive(worker.claim())
        before = len(store.calls)
        for _ in range(100):
            drive(worker.finish(claim=True))
            drive(worker.claim())
        asked = Counter(store.verbs()[before:])
        asked.pop("beat", None)
        assert asked == {"put": 100}
        drive(worker.leave())


def test_it_costs_two_where_others_write_in_between():
    """It is read first, then: nobody tries in vain."""
    store = FaultyStore(MemoryStore.from_url(new(), runtime=Blocking(), namespace="t"))
    with client_over(store) as client:
        site = Site(client, end=1000, size=1)
        workers = [site.worker(), site.worker()]
        for worker in [*workers, *workers]:
            drive(worker.claim())
            drive(worker.finish(claim=True))
        before = len(store.calls)
        for _ in range(50):
            for worker in workers:
                drive(worker.claim())
                drive(worker.finish(claim=True))
        asked = Counter(store.verbs()[before:])
        asked.pop("beat", None)
        assert asked == {"get": 100, "put": 100}
        for worker in workers:
            drive(worker.leave())


def test_an_empty_range_is_done_at_once(client):
    site = Site(client, end=0)
    assert work(site.worker()) == []
    assert site.record().state == "done"


def test_workers_share_it(site):
    first, second = site.worker(), site.worker()
    one, two = drive(first.claim()), drive(second.claim())
    assert (one.number, two.number) == (0, 1)
    drive(second.finish(claim=True))
    drive(first.finish(claim=True))
    assert {drive(first.claim()).number, drive(second.claim()).number} == {2, 3}
    drive(second.finish(claim=True))
    assert drive(second.claim()) is None
    assert site.record().state == "running"
    drive(first.finish(claim=True))
    assert drive(first.claim()) is None
    assert site.record().state == "done"


def test_at_most_so_many_at_once(client):
    site = Site(client, most=2)
    workers = [site.worker() for _ in range(3)]
    assert [drive(worker.claim()) is None for worker in workers] == [False, False, True]
    drive(workers[0].finish(claim=False))
    drive(workers[0].leave())
    assert drive(workers[2].claim()).number == 2


def test_what_is_left_behind_is_begun_again_by_the_next(site):
    first = site.worker()
    chunk = drive(first.claim())
    drive(first.leave())
    second = site.worker()
    again = drive(second.claim())
    assert (again.number, again.start, again.tries) == (0, 0, 2)
    assert again.token > chunk.token
    drive(second.finish(claim=True))
    assert work(second) == [(3, 6), (6, 9), (9, 10)]
    assert site.record().state == "done"


def test_a_zombie_finishes_nothing(site, caplog):
    """It was stopped for longer than its lease, which others have by now; the store refuses its write."""
    zombie = site.worker()
    drive(zombie.claim())
    site.evict(zombie)
    successor = site.worker()
    assert drive(successor.claim()).number == 0
    assert zombie.hold.held  # it does not know
    drive(zombie.finish(claim=True))
    assert (zombie.finished, zombie.lost) == (0, 1)
    assert "chunk 0 of job is not finished by this process" in caplog.text
    assert site.record().done == 0
    drive(successor.finish(claim=False))
    assert site.record().done == 1
    # It is a worker like any other again.
    assert sorted(work(zombie) + work(successor)) == [(3, 6), (6, 9), (9, 10)]
    assert site.record().state == "done"


@pytest.mark.parametrize("eager", [True, False])
def test_who_has_lost_its_lane_is_handed_nothing_under_it(site, eager):
    """Nobody has taken its place yet, so that the cell is as it was: the store itself refuses the write."""
    worker = site.worker()
    chunk = drive(worker.claim())
    if not eager:
        drive(worker.finish(claim=False))
    lost = worker.hold.grant.token
    site.evict(worker)
    drive(worker.finish(claim=True))
    again = drive(worker.claim())
    assert again.token != lost
    assert site.record().done == (0 if eager else 1)
    assert again.number == (chunk.number if eager else 1)
    drive(worker.finish(claim=False))


def test_a_worker_of_a_job_that_has_begun_anew_finishes_nothing_of_it(site):
    old = site.worker()
    drive(old.claim())
    drive(site.job.cancel())
    assert drive(site.job.forget())
    new = site.worker()
    drive(old.finish(claim=True))
    assert (old.finished, old.lost) == (0, 1)
    assert drive(old.claim()) is None
    assert work(new) == [(0, 3), (3, 6), (6, 9), (9, 10)]


def test_a_running_worker_takes_over_the_lane_of_a_dead_one():
    """Long before the end of the job, and without asking about each lane each time."""
    clock = VirtualClock()
    store = FaultyStore(MemoryStore.from_url(new(), runtime=Blocking(clock), namespace="t"))
    with client_over(store, ttl=12.0) as client:
        site = Site(client, end=300, size=3)
        dead, alive = site.worker(), site.worker()
        assert drive(dead.claim()).number == 0
        drive(dead.leave())
        # Of a lane that was locked before its chunk was left behind, a newcomer would look first.
        alive.hold, alive._lane = None, -1
        site.rules = Rules(waits=False)
        drive(alive._lock(dead._lane + 1 if dead._lane < 31 else 0, 0.0))
        numbers = []
        for _ in range(12):
            numbers.append(drive(alive.claim()).number)
            clock.advance(4.0)
            drive(alive.finish(claim=True))
        drive(alive.leave())
        assert 0 in numbers[2:8]
        assert sorted(numbers) == list(range(12))
        assert store.verbs().count("acquire") < 10


# Failures.


def test_an_exception_retries_the_chunk_and_then_stops_the_job(client):
    site = Site(client, retries=2)
    worker, other = site.worker(), site.worker()
    assert drive(other.claim()).number == 0
    tried = []
    for expected in (0.0, 0.0, None):
        tried.append(drive(worker.claim()))
        assert drive(worker.failed(ValueError("no"))) == expected
    assert [(chunk.number, chunk.tries, chunk.errors) for chunk in tried] == [(1, 1, 0), (1, 2, 1), (1, 3, 2)]
    assert site.record().state == "failed"
    assert site.record().error == "chunk 1 raised ValueError: no"
    drive(other.finish(claim=True))  # what was begun is finished
    assert site.record().done == 1
    with pytest.raises(ChunkFailed, match="chunk 1 raised ValueError: no"):
        drive(other.claim())
    drive(site.job.resume())
    assert work(site.worker()) == [(3, 6), (6, 9), (9, 10)]
    assert site.record().state == "done"
    assert site.record().error is None


def test_pauses_between_tries_grow(client):
    worker = Site(client, retries=9, retry_pause=1.0).worker()
    pauses = []
    for _ in range(8):
        drive(worker.claim())
        pauses.append(drive(worker.failed(ValueError())))
    drive(worker.leave())
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


# Steering.


def test_pause_and_resume(site):
    worker = site.worker()
    drive(worker.claim())
    assert drive(site.job.pause()).state == "paused"
    drive(worker.finish(claim=True))
    assert drive(worker.claim()) is None
    assert site.record().done == 1
    assert drive(site.job.resume()).state == "running"
    assert work(worker) == [(3, 6), (6, 9), (9, 10)]


def test_a_job_that_is_paused_at_its_last_chunk_is_done_when_it_is_resumed(client):
    site = Site(client, end=3)
    worker = site.worker()
    drive(worker.claim())
    drive(worker.finish(claim=False))
    drive(site.job.pause())
    assert drive(worker.claim()) is None
    drive(site.job.resume())
    assert drive(worker.claim()) is None
    assert site.record().state == "done"


def test_whoever_waits_while_it_is_paused_goes_on_when_it_is_resumed(client):
    site = Site(client, waits=True)
    drive(site.worker().job.pause())
    found = []
    thread = threading.Thread(target=lambda: found.extend(work(site.worker())))
    thread.start()
    drive(site.job.resume())
    thread.join(30)
    assert found == [(0, 3), (3, 6), (6, 9), (9, 10)]


def test_whoever_has_nothing_left_waits_for_what_others_have_in_work(client, store):
    """And takes it over when they are gone."""
    site = Site(client, waits=True)
    with locksmith.connect(store) as theirs:
        other = site.worker(theirs)
        assert drive(other.claim()).number == 0
        found = []
        thread = threading.Thread(target=lambda: found.extend(work(site.worker())))
        thread.start()
        while site.record().done < 3:
            thread.join(0.01)
        assert thread.is_alive()
        drive(other.leave())
        thread.join(30)
    assert not thread.is_alive()
    assert found == [(3, 6), (6, 9), (9, 10), (0, 3)]


def test_cancel(site):
    worker = site.worker()
    drive(worker.claim())
    assert drive(site.job.cancel()).state == "cancelled"
    drive(worker.finish(claim=True))
    assert drive(worker.claim()) is None
    assert site.record().done == 1  # that it was done is still known
    assert drive(site.job.resume()).state == "cancelled"
    assert drive(site.job.pause()).state == "cancelled"


def test_only_what_is_over_is_forgotten(site):
    worker = site.worker()
    with pytest.raises(ConfigurationError, match="is running: cancel it"):
        drive(site.job.forget())
    work(worker)
    assert drive(site.job.forget())
    assert not drive(site.job.forget())
    assert drive(site.job.cancel()) is None


def test_a_job_keeps_the_range_it_began_with(site):
    site.worker()
    site.walk = ints(100, 200, size=50)
    assert work(site.worker()) == [(0, 3), (3, 6), (6, 9), (9, 10)]


def test_a_job_that_walks_something_else_is_refused(site):
    site.worker()
    from datetime import date

    with pytest.raises(ConfigurationError, match="walks ints, not dates"):
        drive(site.job.begin(dates(date(2024, 1, 1), date(2024, 1, 2))))


def test_what_something_else_has_written_is_refused(site):
    site.client._engine.store
    drive(site.client._engine.store.put(site.job.place, b'{"v":99}'))
    with pytest.raises(ConfigurationError, match="was not written by this version"):
        site.worker()


def test_the_pace_of_late_gives_the_end():
    record = Record("i", "ints", None, 0, 0.0, total=1000.0, finished=100.0, marks=((0.0, 0.0), (0.0, 0.0)))
    assert record.fraction == 0.1
    assert record.left(50.0) == pytest.approx(450.0)
    assert record.paused().left(50.0) is None
    resumed = record.paused().resumed(1000.0)
    assert resumed.left(1001.0) is None  # nothing was finished since
    assert Record("i", "pages", None, 0, 0.0).left(10.0) is None
