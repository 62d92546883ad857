"""Workers that end, in every way: what becomes of the keys of the calls they had."""

from __future__ import annotations

import os
import signal

import pytest
from celery import states
from celeryworkers import Crew

from locksmith.celery.ledger import Place, is_alive
from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.native_threads, pytest.mark.slow]
SOON = 40.0


def test_a_worker_that_is_killed(start_crew, name):
    """Its running call was acknowledged and is gone: an equal call gets the key when the worker is silent for its ttl.

    A call that is queued keeps its key, and so does one that the broker will deliver again.
    """
    crew = start_crew(singleton_worker_ttl=2.0)
    worker = crew.worker("-c", "2", "--prefetch-multiplier", "1")
    first = crew.work.delay(name, gate=name)
    late = crew.late.delay(f"{name}-late", gate=name)
    crew.begun(name)
    crew.begun(f"{name}-late")
    queued = crew.work.delay(f"{name}-queued")
    worker.kill()
    assert crew.work.delay(name, gate=name).id == first.id  # nobody knows yet
    eventually(lambda: crew.work.delay(name, gate=name).id != first.id, within=SOON, what="the key is taken over")
    assert crew.late.delay(f"{name}-late", gate=name).id == late.id
    assert crew.work.delay(f"{name}-queued").id == queued.id
    crew.told.open(name)
    crew.worker("-c", "2")
    crew.begun(name, 2)
    crew.freed("work", name, gate=name)


def test_a_message_that_is_delivered_again_after_its_worker_was_killed(start_crew, name):
    """acks_late: the same call runs again, under its own key, in another worker; equal calls were folded all along."""
    crew = start_crew(singleton_worker_ttl=2.0)
    worker = crew.worker("-c", "1")
    first = crew.late.delay(name, gate=name)
    crew.begun(name)
    entry = crew.entry("late", name, gate=name)
    worker.kill()
    eventually(lambda: crew.ledger.presence(entry.worker) is None, within=SOON, what="the worker counts as dead")
    assert crew.late.delay(name, gate=name).id == first.id
    deliver_again(crew, first.id)
    crew.worker("-c", "1")
    crew.begun(name, 2)
    assert crew.late.delay(name, gate=name).id == first.id
    crew.told.open(name)
    assert first.get(timeout=SOON) == f"{name} done"
    assert crew.entry("late", name, gate=name) is None


def test_a_message_that_is_delivered_again_while_it_runs(start_crew, name):
    """The broker loses patience with a call that lives: no second run beside it, and none after it."""
    crew = start_crew()
    log = crew.worker("-c", "2").log
    first = crew.late.delay(name, gate=name)
    crew.begun(name)
    deliver_again(crew, first.id)
    eventually(lambda: f"{first.id}] ignored" in log.read_text(), within=SOON, what="the second delivery is put off")
    crew.told.open(name)
    assert first.get(timeout=SOON) == f"{name} done"
    eventually(lambda: not waits(crew, first.id), within=SOON, what="the second delivery is gone")
    assert len(crew.told.lines("begin", name)) == 1


def deliver_again(crew, task_id):
    """What kombu does when a message was not acknowledged in time: a worker puts it into its queue once more."""
    with crew.app.connection_for_write() as connection:
        channel = connection.default_channel
        (tag,) = [tag for tag, raw in channel.client.hgetall("unacked").items() if task_id.encode() in raw]
        channel.qos.restore_by_tag(tag.decode())


def waits(crew, task_id):
    """Whether a message of this call is in the broker's hands."""
    with crew.app.connection_for_write() as connection:
        client = connection.default_channel.client
        raws = [*client.hgetall("unacked").values(), *client.lrange(crew.app.conf.task_default_queue, 0, -1)]
    return any(task_id.encode() in raw for raw in raws)


@pytest.mark.parametrize("limit", ["--max-tasks-per-child", "--max-memory-per-child"])
def test_children_that_are_replaced(start_crew, name, limit):
    crew = start_crew()
    crew.worker("-c", "1", limit, "1")  # task, or KiB
    pids = set()
    for number in range(2):
        assert crew.work.delay(name).get(timeout=SOON)
        pids.add(crew.begun(name, number + 1)[3])
        assert crew.entry("work", name) is None
    assert len(pids) == 2


def test_a_worker_that_is_told_to_end_finishes_its_calls_and_takes_its_leave(start_crew, name):
    crew = start_crew()
    worker = crew.worker("-c", "1")
    first = crew.work.delay(name, gate=name)
    crew.begun(name)
    entry = crew.entry("work", name, gate=name)
    worker.process.terminate()
    eventually(lambda: "Warm shutdown" in worker.log.read_text(), within=SOON)
    assert crew.ledger.presence(entry.worker) is not None
    assert crew.work.delay(name, gate=name).id == first.id
    crew.told.open(name)
    assert first.get(timeout=SOON) == f"{name} done"
    worker.process.wait(SOON)
    crew.ledger._seen.clear()
    assert crew.ledger.presence(entry.worker) is None


def test_a_worker_lists_the_calls_it_has_and_no_others(start_crew, name):
    """What ended there without giving its key back is free for the next equal call."""
    crew = start_crew(singleton_worker_ttl=4.0)
    crew.worker("-c", "1")
    first = crew.work.delay(name, gate=name)
    crew.begun(name)
    entry = crew.entry("work", name, gate=name)

    def ids():
        return crew.ledger.presence(entry.worker).ids

    eventually(lambda: first.id in ids(), within=SOON, what="it lists the call that runs")
    crew.told.open(name)
    assert first.get(timeout=SOON)
    place = Place(crew.work.key_for(name, gate=name), "queue")
    left = crew.ledger.write(place, entry, None)  # as if it could not have been given back
    eventually(lambda: crew.ledger.is_vacant(left), within=SOON, what="the call is listed no more")
    assert crew.work.delay(name, gate=name).get(timeout=SOON) == f"{name} done"


def test_a_paused_worker_loses_its_keys_and_says_so(start_crew, name):
    """The price of finding dead workers: one that is stopped for longer than its ttl looks like one."""
    crew = start_crew(singleton_worker_ttl=1.0)
    worker = crew.worker("-c", "1")
    first = crew.work.delay(name, gate=name)
    crew.begun(name)
    os.killpg(worker.process.pid, signal.SIGSTOP)
    eventually(lambda: crew.work.delay(name, gate=name).id != first.id, within=SOON, what="the key is taken over")
    crew.told.open(name)
    os.killpg(worker.process.pid, signal.SIGCONT)
    eventually(lambda: "had lost its key" in worker.log.read_text(), within=SOON, what="the loss is reported")


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_other_pools(start_crew, redis_server, name, pool):
    crew = start_crew(store=redis_server.url)
    crew.worker("-c", "2", "-P", pool)
    assert crew.work.delay(name, "raise").get(timeout=SOON, propagate=False)
    assert crew.entry("work", name, "raise") is None
    assert crew.work.delay(name, "retry").get(timeout=SOON) == f"{name} done"
    revoked = crew.work.apply_async([f"{name}-revoked"], countdown=1)
    revoked.revoke()
    eventually(lambda: revoked.state == states.REVOKED, within=SOON)
    crew.freed("work", f"{name}-revoked")
    if pool != "solo":
        first = crew.work.delay(name, gate=name)
        crew.begun(name, 4)
        assert crew.work.delay(name, gate=name).id == first.id
        crew.told.open(name)
        assert first.get(timeout=SOON) == f"{name} done"
        assert crew.entry("work", name, gate=name) is None


def test_over_the_filesystem_transport(tmp_path, name):
    (tmp_path / "results").mkdir()
    crew = Crew(tmp_path, "filesystem://", f"file://{tmp_path}/results", f"sqlite:///{tmp_path}/locks.db")
    try:
        first = crew.work.delay(name, gate=name)
        assert crew.work.delay(name, gate=name).id == first.id
        crew.worker("-c", "1")
        crew.begun(name)
        crew.told.open(name)
        crew.freed("work", name, gate=name)
    finally:
        crew.close()


def test_the_store_is_away_when_a_call_begins(start_crew, start_redis, name):
    """It is put off, and runs when the store is back."""
    server = start_redis(appendonly=True)
    crew = start_crew(store=server.url)
    worker = crew.worker("-c", "1")
    first = crew.work.apply_async([name], countdown=1)
    server.pause()
    eventually(lambda: "is put off" in worker.log.read_text(), within=SOON, what="the call is put off")
    server.resume()
    assert first.get(timeout=SOON) == f"{name} done"
    crew.freed("work", name)


@pytest.mark.parametrize("when", ["it begins", "it ends, too"])
def test_the_store_is_away_and_the_call_runs_without_it(start_crew, start_redis, name, when):
    """What the call had taken when it was published is given back all the same."""
    server = start_redis(appendonly=True)
    crew = start_crew(store=server.url)
    worker = crew.worker("-c", "1")
    first = crew.lax.apply_async([name], {"gate": name}, countdown=1)
    assert crew.entry("lax", name, gate=name).state == "queued"
    server.pause()
    crew.begun(name)
    assert "runs without its key" in worker.log.read_text()
    if when == "it begins":
        server.resume()
    crew.told.open(name)
    assert first.get(timeout=SOON) == f"{name} done"
    if when != "it begins":
        server.resume()
    crew.freed("lax", name, gate=name)


def test_a_child_that_is_killed_frees_the_key_when_it_is_gone(start_crew, name):
    crew = start_crew()
    crew.worker("-c", "1")
    first = crew.work.delay(name, gate=name)
    pid = int(crew.begun(name)[3])
    os.kill(pid, signal.SIGKILL)
    crew.freed("work", name, gate=name)
    assert not is_alive(pid)
    eventually(first.ready, within=SOON)
    assert first.state == states.FAILURE
    assert crew.work.delay(name, gate="open").id != first.id
