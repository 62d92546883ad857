"""Looking after chunked jobs: what stands still is published again, by one worker, and less and less often."""

from __future__ import annotations

import uuid
from itertools import pairwise
from types import SimpleNamespace

import pytest
from celery import Celery

import locksmith
from locksmith.celery import Chunk, chunk_watch, chunkify_task
from locksmith.celery.chunk_marks import note_of
from locksmith.celery.chunk_watch import Watch
from locksmith.recipes import chunk_list
from locksmith.recipes.chunk_job import ChunkJob
from locksmith.recipes.chunk_worker import ChunkWorker, Rules
from locksmith.runtime import drive
from locksmith.testing.clock import VirtualClock

SLEEP, PERIOD = 5.0, 10.0


class Site:
    """A job that has lost its message, and two workers that look after it, by a clock that the test moves."""

    def __init__(self, client: locksmith.Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = Celery("site", broker="memory://")
        first = Chunk(0, 10, 99)

        @self.app.task(shared=False, name="work")
        @chunkify_task(sleep_timeout=SLEEP, initial_chunk=first)
        def work(name, chunk): ...

        request = SimpleNamespace(
            id="start", delivery_info={"exchange": "", "routing_key": "q", "priority": 4}, timelimit=None, expires=None,
            shadow=None, headers={"mine": 1},
        )  # fmt: skip
        self.client = client
        self.job = ChunkJob(client._engine, "job")
        self.record = drive(self.job.begin(first.walk(), note=note_of(work, request, ["a"], {"b": 2})))
        drive(chunk_list.add(client._engine, "job", chunk_list.ACTIVE))
        self.clock = VirtualClock()
        self.published = []
        monkeypatch.setattr(chunk_watch, "publish", lambda *call: self.published.append((self.clock.now(), call)))
        self.watches = [Watch(self.app, client, PERIOD) for _ in range(2)]
        for watch in self.watches:
            watch._clock = self.clock

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds / PERIOD)):
            self.clock.advance(PERIOD)
            for watch in self.watches:
                watch.look()

    def worker(self) -> ChunkWorker:
        record = drive(self.job.read())
        return ChunkWorker(self.client._settings, self.job, Chunk(0, 10, 99).walk(), record, Rules(most=1, waits=False))


@pytest.fixture
def site(monkeypatch):
    with locksmith.connect(f"memory://{uuid.uuid4().hex}") as client:
        yield Site(client, monkeypatch)


def test_one_of_them_publishes_the_step_as_it_was_called(site):
    site.pass_time(20)
    assert site.published == []
    site.pass_time(20)
    ((_, (task, args, kwargs, options, step, countdown)),) = site.published
    assert (task.name, args, kwargs, countdown) == ("work", ["a"], {"b": 2}, 0.0)
    assert options == {"queue": "q", "priority": 4, "headers": {"mine": 1}}
    assert (step.key, step.id, step.done) == ("job", site.record.id, 0)


def test_less_and_less_often_until_it_goes_on(site):
    site.pass_time(3600)
    times = [at for at, _ in site.published]
    pauses = [after - before for before, after in pairwise(times)]
    assert 5 <= len(times) <= 8
    assert all(after > before * 1.5 for before, after in pairwise(pauses))
    worker = site.worker()
    drive(worker.claim())
    drive(worker.finish(claim=False))
    drive(worker.leave())
    count = len(site.published)
    site.pass_time(50)
    assert len(site.published) == count + 1
    assert site.published[-1][1][4].done == 1


def test_not_while_a_chunk_is_in_work(site):
    worker = site.worker()
    drive(worker.claim())
    site.pass_time(600)
    assert site.published == []
    drive(worker.leave())
    site.pass_time(20)
    assert len(site.published) == 1


@pytest.mark.parametrize("what", ["pause", "cancel"])
def test_not_what_is_paused_or_over(site, what):
    drive(getattr(site.job, what)())
    site.pass_time(600)
    assert site.published == []
    assert drive(chunk_list.active(site.client._engine)) == (["job"] if what == "pause" else [])


def test_not_the_tasks_of_other_applications(site):
    site.app._tasks.pop("work")
    site.pass_time(600)
    assert site.published == []
