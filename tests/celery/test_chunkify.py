"""chunkify_task with real workers: one chain, arguments and routing kept, retried, resumed, steered, paced."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from celeryworkers import Crew

from locksmith.celery import Chunk
from locksmith.celery.chunk_marks import HEADER, Step
from locksmith.celery.chunking import plan_of
from locksmith.celery.wiring import client_of
from locksmith.chunks import Job
from locksmith.recipes.chunk_job import ChunkJob
from locksmith.runtime import drive
from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.native_threads]
SOON = 40.0
ALL = [f"{start} {start + 10}" for start in range(0, 50, 10)]


def done(crew: Crew, name: str) -> list[str]:
    return [line.split(maxsplit=2)[2] for line in crew.told.lines("done", name)]


def finished(crew: Crew, name: str, times: int = 5) -> None:
    eventually(lambda: len(done(crew, name)) >= times, within=SOON, what=f"{name}: {times} chunks")


def key(task, *args, **kwargs):
    return plan_of(task).key_of(task.name, args, kwargs, bound=True)


def job(crew: Crew, task, *args, **kwargs):
    return Job(client_of(crew.app), key(task, *args, **kwargs))


def ended(crew: Crew, task, *args, **kwargs) -> None:
    found = job(crew, task, *args, **kwargs)
    eventually(lambda: (p := found.progress()) and p.state == "done", within=SOON, what="the job is done")


def test_a_chain_over_all_chunks(crew, name):
    """Positional arguments are kept, the first call has the first chunk's result, each chunk has a message."""
    assert crew.chunks.delay(name).get(timeout=SOON) == 0
    finished(crew, name)
    assert done(crew, name) == ALL
    ended(crew, crew.chunks, name)
    ids = [line.split()[-1] for line in crew.told.lines("chunk", name)]
    assert len(set(ids)) == 5
    assert [line.split()[4:6] for line in crew.told.lines("chunk", name)][:2] == [["0", "9"], ["10", "19"]]


def test_a_second_start_joins_the_chain(crew, name):
    first = crew.chunks.delay(name, gate=name)
    eventually(lambda: crew.told.lines("chunk", name, 20), within=SOON, what="it waits in its third chunk")
    others = [crew.chunks.delay(name, gate=name) for _ in range(3)]
    assert [other.get(timeout=SOON) for other in others] == [None] * 3
    crew.told.open(name)
    ended(crew, crew.chunks, name, gate=name)
    assert first.get(timeout=SOON) == 0
    assert Counter(done(crew, name)) == dict.fromkeys(ALL, 1)
    # What those three have published arrives later, and finds its step over.
    time.sleep(1.5)
    assert Counter(done(crew, name)) == dict.fromkeys(ALL, 1)


def test_after_its_end_a_call_starts_it_anew(crew, name):
    crew.chunks.delay(name).get(timeout=SOON)
    ended(crew, crew.chunks, name)
    assert crew.chunks.delay(name).get(timeout=SOON) == 0
    finished(crew, name, 10)
    assert done(crew, name) == ALL + ALL


def test_messages_that_are_delivered_again_fork_nothing(crew, name):
    """The step that is over, the one that is in work, and the start of a job that is done."""
    started = crew.chunks.delay(name, gate=name)
    eventually(lambda: crew.told.lines("chunk", name, 20), within=SOON, what="it waits in its third chunk")
    record = drive(ChunkJob(client_of(crew.app)._engine, key(crew.chunks, name, gate=name)).read())
    for at in (0, 1, 2, 2, 3):
        header = Step(key(crew.chunks, name, gate=name), record.id, at).dump()
        crew.chunks.apply_async([name], {"gate": name}, headers={HEADER: header})
    crew.chunks.apply_async([name], {"gate": name}, task_id=started.id)
    crew.told.open(name)
    ended(crew, crew.chunks, name, gate=name)
    crew.chunks.apply_async([name], {"gate": name}, task_id=started.id)
    crew.add.delay("x").get(timeout=SOON)
    time.sleep(1.5)
    assert Counter(done(crew, name)) == dict.fromkeys(ALL, 1)


def test_the_chunk_may_be_any_parameter(crew, name):
    crew.chunks_first.delay(name, 1, 2, x=3)
    eventually(lambda: len(crew.told.lines("chunk", name)) == 3, within=SOON, what="three chunks")
    assert crew.told.lines("chunk", name) == [f"chunk {name} {span} 1 2 x" for span in ("0 4", "4 8", "8 10")]


def test_a_call_may_start_elsewhere(crew, name):
    crew.chunks.delay(name, chunk=Chunk(30, 5, 38)).get(timeout=SOON)
    finished(crew, name, 2)
    assert done(crew, name) == ["30 35", "35 39"]
    ended(crew, crew.chunks, name)
    crew.chunks.delay(name, chunk={"start": 5, "size": 100, "max": 9}).get(timeout=SOON)
    finished(crew, name, 3)
    assert done(crew, name)[2:] == ["5 10"]


def test_an_exception_retries_the_chunk(crew, name):
    crew.chunks.delay(name, how="raise-once")
    finished(crew, name)
    assert done(crew, name) == ALL
    assert Counter(line.split()[2] for line in crew.told.lines("chunk", name))["10"] == 2


def test_a_chunk_that_keeps_failing_stops_the_job(crew, name):
    crew.chunks.delay(name, how="raise")
    found = job(crew, crew.chunks, name, how="raise")
    eventually(lambda: (p := found.progress()) and p.state == "failed", within=SOON, what="the job has stopped")
    assert "raised ValueError: as told" in found.progress().error
    assert Counter(line.split()[2] for line in crew.told.lines("chunk", name)) == {"0": 1, "10": 4}


def told_in_its_third_chunk(crew, name, order):
    """A job that is given an order while it is in its third chunk, and begins no other."""
    crew.chunks.delay(name, gate=name)
    eventually(lambda: crew.told.lines("chunk", name, 20), within=SOON, what="it waits in its third chunk")
    found = job(crew, crew.chunks, name, gate=name)
    getattr(found, order)()
    crew.told.open(name)
    eventually(lambda: found.progress().done == 3, within=SOON, what="the third is finished")
    crew.add.delay("x").get(timeout=SOON)
    time.sleep(0.5)
    assert done(crew, name) == ALL[:3]
    return found


@pytest.mark.slow
def test_pause_and_resume(crew, name):
    found = told_in_its_third_chunk(crew, name, "pause")
    found.resume()
    ended(crew, crew.chunks, name, gate=name)
    assert done(crew, name) == ALL


def test_cancel(crew, name):
    told_in_its_third_chunk(crew, name, "cancel")


def test_a_rate(crew, name):
    began = time.monotonic()
    crew.chunks_paced.delay(name)
    ended(crew, crew.chunks_paced, name)
    assert done(crew, name) == ALL
    assert time.monotonic() - began >= 1.4  # four steps, half a second apart; the first of them is free


def test_nothing_is_begun_while_a_queue_is_deep(crew, name, monkeypatch):
    queue = f"{crew.app.conf.task_default_queue}-more"
    for number in range(4):
        crew.add.apply_async([number], queue=queue)
    crew.chunks_patient.delay(name)
    eventually(lambda: job(crew, crew.chunks_patient, name).progress(), within=SOON, what="it has begun")
    crew.add.delay("x").get(timeout=SOON)
    time.sleep(0.5)
    assert done(crew, name) == []
    with crew.app.connection_for_write() as connection:
        connection.default_channel.queue_purge(queue)
    finished(crew, name)
    assert done(crew, name) == ALL


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_is_killed(start_crew, name, pool):
    """Its message is gone, and no lease is left: another worker publishes the step once more."""
    crew = start_crew(chunks_watch_period=0.5)
    worker = crew.worker("-c", "2", "-P", pool)
    crew.chunks.delay(name, gate=name)
    eventually(lambda: crew.told.lines("chunk", name, 20), within=SOON, what="it waits in its third chunk")
    worker.kill()
    crew.told.open(name)
    crew.worker("-c", "2", "-P", pool)
    ended(crew, crew.chunks, name, gate=name)
    assert done(crew, name) == ALL
    assert Counter(line.split()[2] for line in crew.told.lines("chunk", name))["20"] == 2


@pytest.mark.slow
def test_a_child_that_is_killed(start_crew, name):
    crew = start_crew(chunks_watch_period=0.5)
    crew.worker("-c", "1")
    crew.chunks.delay(name, how="die-once")
    ended(crew, crew.chunks, name, how="die-once")
    assert done(crew, name) == ALL


@pytest.mark.slow
def test_where_to_and_how_urgent_is_kept(start_crew, name):
    """Also the headers of the call, and its time limits."""
    crew = start_crew()
    queue = f"{crew.app.conf.task_default_queue}-other"
    crew.worker("-c", "1", "-Q", queue)
    crew.chunks.apply_async([name], queue=queue, priority=3, headers={"mine": 1}, time_limit=30, expires=600)
    ended(crew, crew.chunks, name)
    assert done(crew, name) == ALL
    calls = {tuple(line.split()[2:]) for line in crew.told.lines("call", name)}
    assert len(calls) == 1
    assert calls.pop()[:4] == (queue, "3", "1", "30")


@pytest.mark.slow
def test_over_a_folder(tmp_path, name):
    """The filesystem transport, which forgets what a killed worker had."""
    (tmp_path / "results").mkdir()
    crew = Crew(
        tmp_path, "filesystem://", f"file://{tmp_path}/results", f"sqlite:///{tmp_path}/locks.db",
        chunks_watch_period=0.5,
    )  # fmt: skip
    try:
        worker = crew.worker("-c", "1")
        crew.chunks.delay(name, gate=name)
        eventually(lambda: crew.told.lines("chunk", name, 20), within=SOON, what="it waits in its third chunk")
        worker.kill()
        crew.told.open(name)
        crew.worker("-c", "1")
        ended(crew, crew.chunks, name, gate=name)
        assert done(crew, name) == ALL
    finally:
        crew.close()
