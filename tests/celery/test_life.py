"""How calls end, with a real worker of two children: in each way the key is free afterwards, and not before."""

from __future__ import annotations

import uuid
from typing import Any

import celery
import pytest
from celery import states
from celery.exceptions import TaskRevokedError, TimeLimitExceeded

from locksmith.celery import DuplicateTaskError
from locksmith.celery.ledger import is_alive
from locksmith.celery.wiring import wiring_of
from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.native_threads]
SOON = 40.0


def outcome(result: Any) -> str:
    """The final state of a call, however it ended."""
    eventually(result.ready, within=SOON, what=f"{result.id} has ended")
    return str(result.state)


def test_an_equal_call_is_the_same_call_while_it_runs(crew, name):
    first = crew.work.delay(name, gate=name)
    crew.begun(name)
    assert crew.entry("work", name, gate=name).state == "running"
    assert crew.work.delay(name, gate=name).id == first.id
    assert crew.work.apply_async([], {"gate": name, "name": name}).id == first.id
    assert crew.work.delay(name, gate="another").id != first.id
    crew.begun(name, 2)
    crew.told.open(name)
    crew.told.open("another")
    assert first.get(timeout=SOON) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2


def test_after_its_result_was_seen_no_call_is_folded_into_it(crew, name):
    ids = set()
    for _ in range(5):
        result = crew.work.delay(name)
        assert result.get(timeout=SOON, interval=0.005) == f"{name} done"
        ids.add(result.id)
    assert len(ids) == len(crew.told.lines("begin", name)) == 5


def test_while_queued(crew, name):
    first = crew.work.apply_async([name], countdown=2)
    assert crew.entry("work", name).state == "queued"
    assert [crew.work.delay(name).id for _ in range(3)] == [first.id] * 3
    assert first.get(timeout=SOON)
    assert len(crew.told.lines("begin", name)) == 1


@pytest.mark.parametrize(("how", "state"), [("raise", states.FAILURE), ("reject", None), ("ignore", None)])
def test_ends_without_a_result(crew, name, how, state):
    first = crew.work.delay(name, how)
    crew.begun(name)
    crew.freed("work", name, how)
    if state:
        assert outcome(first) == state
    second = crew.work.delay(name, how)
    assert second.id != first.id
    crew.begun(name, 2)
    crew.freed("work", name, how)


def test_a_retry_keeps_its_key_while_it_waits(crew, name):
    first = crew.work.delay(name, "retry")
    eventually(lambda: first.state == states.RETRY, within=SOON, what="it waits for its retry")
    assert crew.entry("work", name, "retry").state == "queued"
    assert crew.work.delay(name, "retry").id == first.id
    assert first.get(timeout=SOON) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2
    assert crew.entry("work", name, "retry") is None


def test_autoretry(crew, name):
    first = crew.flaky.delay(name)
    assert first.get(timeout=SOON) == 1
    assert crew.flaky.delay(name).id != first.id


def test_arguments_that_the_task_changes(crew):
    first = crew.mutate.delay([], {})
    assert first.get(timeout=SOON) == 2
    crew.freed("mutate", [], {})
    assert crew.mutate.delay([], {}).id != first.id


def test_soft_time_limit(crew, name):
    result = crew.work.apply_async([name, "soft"], soft_time_limit=1)
    assert result.get(timeout=SOON) == f"{name} in time"
    assert crew.entry("work", name, "soft") is None


def test_soft_time_limit_that_the_task_does_not_catch(crew, name):
    result = crew.work.apply_async([name, "sleep"], soft_time_limit=1)
    assert outcome(result) == states.FAILURE
    assert crew.entry("work", name, "sleep") is None


def test_hard_time_limit(crew, name):
    result = crew.work.apply_async([name, "sleep"], time_limit=1)
    pid = int(crew.begun(name)[3])
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=SOON)
    crew.freed("work", name, "sleep")
    assert not is_alive(pid)


def test_the_child_that_runs_it_is_killed(crew, name):
    result = crew.work.delay(name, "die")
    assert outcome(result) == states.FAILURE
    crew.freed("work", name, "die")


def test_killed_and_delivered_again_at_once(crew, name):
    """acks_late with reject_on_worker_lost: the key is kept for the next delivery, which runs."""
    first = crew.loyal.delay(name, "die-once")
    assert first.get(timeout=SOON) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2
    assert crew.entry("loyal", name, "die-once") is None


def test_rejected_to_be_delivered_again(crew, name):
    first = crew.late.delay(name, "requeue-once")
    assert first.get(timeout=SOON) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2
    assert crew.entry("late", name, "requeue-once") is None


def test_revoked_before_it_runs(crew, name):
    first = crew.work.apply_async([name], countdown=3)
    first.revoke()
    with pytest.raises(TaskRevokedError):
        first.get(timeout=SOON)
    crew.freed("work", name)
    assert crew.told.lines("begin", name) == []


def test_revoked_while_it_runs(crew, name):
    first = crew.work.delay(name, "sleep")
    pid = int(crew.begun(name)[3])
    first.revoke(terminate=True)
    crew.freed("work", name, "sleep")
    assert not is_alive(pid)
    assert outcome(first) == states.REVOKED


def test_revoked_without_terminate_keeps_running_and_keeps_its_key(crew, name):
    first = crew.work.delay(name, gate=name)
    crew.begun(name)
    crew.app.control.revoke(first.id, reply=True, timeout=2)
    assert crew.work.delay(name, gate=name).id == first.id
    crew.told.open(name)
    crew.freed("work", name, gate=name)


def test_expired_before_it_runs(crew, name):
    first = crew.work.apply_async([name], countdown=2, expires=0.5)
    with pytest.raises(TaskRevokedError):
        first.get(timeout=SOON)
    crew.freed("work", name)
    assert crew.told.lines("begin", name) == []


def test_raise_and_skip(crew, name):
    first = crew.raising.apply_async([name], countdown=2)
    with pytest.raises(DuplicateTaskError, match=first.id) as caught:
        crew.raising.delay(name)
    assert caught.value.task_id == first.id
    assert crew.raising.apply_async([name], singleton={"on_duplicate": "return"}).id == first.id
    crew.skipping.apply_async([name], countdown=2)
    skipped = crew.skipping.delay(name)
    assert (skipped.id, skipped.state, skipped.get()) == (None, states.IGNORED, None)


def test_the_same_message_twice(crew, name):
    """Two deliveries of one call, as of a broker that loses patience: the second is dropped."""
    task_id = str(uuid.uuid4())
    crew.work.apply_async([name], {"gate": name}, task_id=task_id)
    crew.begun(name)
    key = crew.work.key_for(name, gate=name)
    wiring_of(crew.app).publish("work", [name], {"gate": name}, task_id=task_id, headers={"locksmith": {"key": key}})
    probe = crew.work.delay(f"{name}-probe")  # behind it in the queue
    assert probe.get(timeout=SOON)
    crew.told.open(name)
    assert crew.app.AsyncResult(task_id).get(timeout=SOON) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 1


def test_published_twice_under_one_id(crew, name):
    task_id = str(uuid.uuid4())
    for _ in range(2):
        assert crew.work.apply_async([name], {"gate": name}, task_id=task_id).id == task_id
    crew.begun(name)
    assert crew.work.apply_async([name], {"gate": name}, task_id=task_id).id == task_id
    assert crew.entry("work", name, gate=name).state == "running"
    crew.told.open(name)
    assert crew.app.AsyncResult(task_id).get(timeout=SOON) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 1


@pytest.fixture
def stranger(crew):
    """A producer that knows nothing of keys."""
    made = celery.Celery("stranger", broker=crew.app.conf.broker_url, backend=crew.app.conf.result_backend)
    made.conf.broker_transport_options = crew.app.conf.broker_transport_options
    made.conf.task_default_queue = crew.app.conf.task_default_queue
    yield made
    made.close()


@pytest.mark.parametrize("task", ["work", "here"])
def test_published_by_somebody_who_knows_nothing_of_keys(crew, stranger, name, task):
    first = crew.app.tasks[task].delay(name, gate=name)
    crew.begun(name)
    late = stranger.send_task(task, [name], {"gate": name})
    assert outcome(late) == states.REVOKED
    assert crew.app.tasks[task].delay(name, gate=name).id == first.id
    crew.told.open(name)
    assert first.get(timeout=SOON)
    alone = stranger.send_task(task, [name], {"gate": name})
    assert alone.get(timeout=SOON) == f"{name} done"
    assert crew.entry(task, name, gate=name) is None
    assert len(crew.told.lines("begin", name)) == 2


@pytest.mark.parametrize("task", ["work", "here"])
def test_published_by_such_and_revoked_while_it_runs(crew, stranger, name, task):
    call = stranger.send_task(task, [name], {"how": "sleep"})
    crew.begun(name)
    assert crew.entry(task, name, how="sleep").id == call.id
    crew.app.control.revoke(call.id, terminate=True, signal="SIGKILL")
    crew.freed(task, name, how="sleep")
    assert outcome(call) == states.REVOKED


def test_send_task_by_name(crew, name):
    first = crew.app.send_task("work", [name], {"gate": name})
    assert crew.app.send_task("work", (), {"name": name, "gate": name}).id == first.id
    assert crew.work.delay(name, gate=name).id == first.id
    crew.told.open(name)
    assert first.get(timeout=SOON)
