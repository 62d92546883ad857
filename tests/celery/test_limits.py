"""Limits of tasks, with a real worker: when calls begin is judged by the store's clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
from celery import states

import locksmith
from locksmith.celery.wiring import wiring_of
from locksmith.recipes import places
from locksmith.runtime import drive
from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.native_threads, pytest.mark.timeout(150)]
SOON = 40.0
SECOND = 1_000_000


def begun(crew, name):
    """(task id, slot, when it began, retries) of each beginning, in the order of the slots."""
    words = [line.split() for line in crew.told.lines("begin", name)]
    return sorted(((each[2], int(each[3]), int(each[4]), int(each[5])) for each in words), key=lambda each: each[1])


def slots(crew, name):
    found = begun(crew, name)
    assert all(at >= slot > 0 for _, slot, at, _ in found), "none begins before its slot"
    return [slot for _, slot, _, _ in found]


def assert_paced(taken, interval):
    assert all(later - earlier >= interval for earlier, later in pairwise(taken)), taken


def test_no_more_than_the_limit_and_the_rest_wait_in_no_slot_of_the_pool(crew, name):
    calls = [crew.paced.delay(name) for _ in range(20)]
    eventually(lambda: crew.told.lines("begin", name), within=SOON)
    assert crew.work.delay(f"{name}-beside").get(timeout=SOON)
    assert [call.get(timeout=SOON) for call in calls] == [call.id for call in calls]
    taken = slots(crew, name)
    assert len(taken) == 20
    assert_paced(taken, SECOND // 10)
    assert all(retries == 0 for *_, retries in begun(crew, name))


def test_another_key_has_a_limit_of_its_own(crew, name):
    first = crew.paced_late.delay(name)
    assert first.get(timeout=SOON)
    crew.paced_late.delay(name)
    assert crew.paced_late.delay(f"{name}-other").get(timeout=SOON)
    eventually(lambda: len(crew.told.lines("end", name)) == 2, within=SOON)
    assert_paced(slots(crew, name), 3 * SECOND)


def test_several_windows(crew, name):
    calls = [crew.windows.delay(name) for _ in range(12)]
    for call in calls:
        call.get(timeout=SOON)
    taken = slots(crew, name)
    for begin in taken:
        assert len([slot for slot in taken if begin <= slot < begin + SECOND]) <= 25
        assert len([slot for slot in taken if begin <= slot < begin + 4 * SECOND]) <= 8


def test_a_retry_takes_a_slot_of_its_own(crew, name):
    assert crew.paced_late.delay(name, "retry").get(timeout=SOON)
    assert [retries for *_, retries in begun(crew, name)] == [0, 1]
    assert_paced(slots(crew, name), 3 * SECOND)


def test_at_most_so_many_at_once(crew, name):
    calls = [crew.few.delay(name, gate=name) for _ in range(4)]
    # Beside a worker of two children a third call shows that none of the waiting ones occupies a slot: see below.
    eventually(lambda: len(crew.told.lines("begin", name)) == 2, within=SOON)
    crew.told.open(name)
    for call in calls:
        call.get(timeout=SOON)
    running = most = 0
    for line in (crew.folder / "journal").read_text().splitlines():
        if name in line.split():
            running += 1 if line.startswith("begin") else -1
            most = max(most, running)
    assert (running, most) == (0, 2)


def test_who_waits_for_a_permit_leaves_the_pool_free_and_keeps_to_the_rate(crew, name):
    calls = [crew.few_paced.delay(name, gate=name) for _ in range(3)]
    eventually(lambda: crew.told.lines("begin", name), within=SOON)
    assert crew.work.delay(f"{name}-beside").get(timeout=SOON)
    assert len(crew.told.lines("begin", name)) == 1
    crew.told.open(name)
    for call in calls:
        call.get(timeout=SOON)
    assert_paced(slots(crew, name), SECOND // 2)


@pytest.mark.parametrize("task", ["singleton_first", "limit_first", "together"])
def test_together_with_singleton(crew, name, task):
    first = crew.app.tasks[task].delay(name, "a")
    assert first.get(timeout=SOON)
    waiting = crew.app.tasks[task].delay(name, "b")
    assert crew.app.tasks[task].delay(name, "b").id == waiting.id
    eventually(
        lambda: crew.told.lines("begin", name)[1:] or has_slot(crew, waiting.id),
        within=SOON,
        what="it has got its slot",
    )
    if waiting.state != states.SUCCESS:
        assert crew.app.tasks[task].delay(name, "b").id == waiting.id  # it is a queued one, while it waits
    assert waiting.get(timeout=SOON) == waiting.id
    assert_paced(slots(crew, name), 2 * SECOND)
    assert len(crew.told.lines("begin", name)) == 2
    assert crew.app.tasks[task].delay(name, "b").id != waiting.id


def has_slot(crew, task_id):
    """Whether a call was given a slot: that is noted in the store, or in the message."""
    store = wiring_of(crew.app).current_client()._engine.store
    if drive(store.get(places.of_task(f"0:{task_id}", "slot"))) is not None:
        return True
    with crew.app.connection_for_write() as connection:
        client = connection.default_channel.client
        raws = [*client.hgetall("unacked").values(), *client.lrange(crew.app.conf.task_default_queue, 0, -1)]
    return any(task_id.encode() in raw and b"locksmith_slot" in raw for raw in raws)


# With workers of their own.


@pytest.mark.slow
def test_exact_across_workers(start_crew, name):
    crew = start_crew()
    logs = [crew.worker("-c", "2").log for _ in range(2)]
    calls = [crew.paced.delay(name) for _ in range(40)]
    for call in calls:
        assert call.get(timeout=SOON) == call.id
    taken = slots(crew, name)
    assert len(taken) == 40
    assert_paced(taken, SECOND // 10)
    texts = [log.read_text() for log in logs]
    assert all(any(f"{call.id}] succeeded" in text for call in calls) for text in texts), "both have worked"


@pytest.mark.slow
def test_a_worker_is_killed_while_it_holds_a_message_that_has_its_slot(start_crew, name):
    """The broker delivers it again, to another worker: it runs in the slot that it has, and takes no other."""
    crew = start_crew()
    worker = crew.worker("-c", "1")
    assert crew.slow_paced.delay(name).get(timeout=SOON)
    waiting = crew.slow_paced.delay(name)
    eventually(lambda: has_slot(crew, waiting.id), within=SOON, what="the worker holds it")
    worker.kill()
    deliver_again(crew, waiting.id)
    crew.worker("-c", "1")
    assert waiting.get(timeout=SOON) == waiting.id
    taken = slots(crew, name)
    assert len(taken) == 2
    with locksmith.connect(crew.app.conf.locksmith_url) as client:
        after = client.rate_limit("slow_paced", "1/8s").reserve(key=name).at
    # Unless this machine needed longer than the call may be late, and it had to take another slot.
    assert_paced([*taken, after], 8 * SECOND - 1)
    assert after - taken[0] <= 16 * SECOND + 2 or taken[1] - taken[0] > 8 * SECOND + 2


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_other_pools(start_crew, name, pool):
    crew = start_crew()
    crew.worker("-c", "4", "-P", pool)
    paced = [crew.paced.delay(name) for _ in range(6)]
    few = [crew.few.delay(f"{name}-few") for _ in range(4)]
    assert [call.get(timeout=SOON) for call in [*paced, *few]] == [call.id for call in [*paced, *few]]
    assert_paced(slots(crew, name), SECOND // 10)
    assert len(crew.told.lines("end", f"{name}-few")) == 4


@pytest.mark.slow
def test_the_permit_of_a_killed_child_is_free_after_its_ttl(start_crew, name):
    crew = start_crew()
    crew.worker("-c", "2")
    killed = [crew.few.delay(name, "die") for _ in range(2)]
    for call in killed:
        eventually(lambda call=call: call.state == states.FAILURE, within=SOON, what="its child is dead")
    assert crew.few.delay(name).get(timeout=SOON), "both permits were lost, and have come back"
    assert len(crew.told.lines("begin", name)) == 3


@pytest.mark.slow
def test_the_store_is_away_when_a_limited_call_begins(start_crew, start_redis, name):
    server = start_redis(appendonly=True)
    crew = start_crew(store=server.url)
    worker = crew.worker("-c", "1")
    assert crew.paced.delay(f"{name}-first").get(timeout=SOON)
    server.pause()
    call = crew.paced.delay(name)
    eventually(lambda: f"paced[{call.id}] is put off" in worker.log.read_text(), within=SOON, what="it is put off")
    server.resume()
    assert call.get(timeout=SOON) == call.id
    assert [retries for *_, retries in begun(crew, name)] == [0]


def deliver_again(crew, task_id):
    """What kombu does when a message was not acknowledged in time: a worker puts it into its queue once more."""
    with crew.app.connection_for_write() as connection:
        channel = connection.default_channel
        (tag,) = [tag for tag, raw in channel.client.hgetall("unacked").items() if task_id.encode() in raw]
        channel.qos.restore_by_tag(tag.decode())
