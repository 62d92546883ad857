"""Over RabbitMQ, with real workers: keys, limits, fires of beat, and what its queues tell.

What differs from the brokers that kombu plays itself: what a worker has not acknowledged when its connection ends is
delivered again at once, and to whoever is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import kombu
import pytest
from celery import states
from celery.exceptions import TaskRevokedError
from celeryworkers import Crew

import locksmith
from locksmith.celery.beat.book import task_id
from locksmith.celery.beat.entry import Entry
from locksmith.celery.beat.sending import Sender
from locksmith.celery.wiring import wiring_of
from locksmith.metrics.queues import look, stamp
from locksmith.recipes import places
from locksmith.runtime import drive
from locksmith.testing import Proxy
from locksmith.testing.servers import RabbitMQServer, RedisServer
from locksmith.testing.waiting import eventually

pytestmark = [
    pytest.mark.rabbitmq, pytest.mark.redis, pytest.mark.native_threads, pytest.mark.slow, pytest.mark.timeout(200),
]  # fmt: skip
SOON = 60.0
SECOND = 1_000_000
MOMENT = 1_800_000_000_000_000


@pytest.fixture(scope="module")
def crew(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq_server: RabbitMQServer, redis_server: RedisServer
) -> Iterator[Crew]:
    """One prefork worker of two children for all tests of this file."""
    with ExitStack() as stack:
        made = Crew(tmp_path_factory.mktemp("crew"), f"py{rabbitmq_server.url}", redis_server.url, redis_server.url)
        stack.callback(made.close)
        made.worker("-c", "2")
        yield made


@pytest.fixture
def start_crew(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq_server: RabbitMQServer, redis_server: RedisServer
) -> Iterator[Callable[..., Crew]]:
    """A crew for this test alone, without workers yet, with a SQLite file as its store."""
    with ExitStack() as stack:

        def start(broker: str = rabbitmq_server.url, **conf: Any) -> Crew:
            folder = tmp_path_factory.mktemp("crew")
            made = Crew(folder, f"py{broker}", redis_server.url, f"sqlite:///{folder}/locks.db", **conf)
            stack.callback(made.close)
            return made

        yield start


# ------------------------------------------------------------------------------------- keys


def test_an_equal_call_is_the_same_call_until_it_has_ended(crew: Crew, name: str) -> None:
    first = crew.work.delay(name, gate=name)
    assert crew.work.delay(name, gate=name).id == first.id
    crew.begun(name)
    assert crew.work.delay(name, gate=name).id == first.id
    crew.told.open(name)
    assert first.get(timeout=SOON) == f"{name} done"
    second = crew.work.delay(name, gate=name)
    assert second.id != first.id
    assert second.get(timeout=SOON) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2


def test_the_key_is_free_after_an_exception(crew: Crew, name: str) -> None:
    first = crew.work.delay(name, "raise")
    assert isinstance(first.get(timeout=SOON, propagate=False), ValueError)
    assert crew.entry("work", name, "raise") is None
    assert crew.work.delay(name, "raise").id != first.id
    crew.begun(name, 2)
    crew.freed("work", name, "raise")


def test_a_retry_keeps_its_key_while_it_waits(crew: Crew, name: str) -> None:
    first = crew.work.delay(name, "retry")
    eventually(lambda: first.state == states.RETRY, within=SOON, what="it waits for its retry")
    assert crew.work.delay(name, "retry").id == first.id
    assert first.get(timeout=SOON) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2
    assert crew.entry("work", name, "retry") is None


def test_given_back_to_the_broker(crew: Crew, name: str) -> None:
    """It comes back at once, marked as delivered before: run under the key that it has kept, and no copy of a fire."""
    loyal = crew.loyal.delay(f"{name}-loyal", "die-once")
    late = crew.late.delay(f"{name}-late", "requeue-once")
    fire = send_fire(crew, f"{name}-fire", "loyal_plain", "die-once")
    for call, which in ((loyal, "loyal"), (late, "late"), (fire, "fire")):
        assert call.get(timeout=SOON) == f"{name}-{which} done"
        assert len(crew.told.lines("begin", f"{name}-{which}")) == 2
    assert crew.entry("loyal", f"{name}-loyal", "die-once") is None
    assert crew.entry("late", f"{name}-late", "requeue-once") is None


def test_revoked_and_expired_calls_give_their_keys_up(crew: Crew, name: str) -> None:
    revoked = crew.work.apply_async([f"{name}-revoked"], countdown=3)
    expired = crew.work.apply_async([f"{name}-expired"], countdown=2, expires=0.5)
    revoked.revoke()
    for call, which in ((revoked, "revoked"), (expired, "expired")):
        with pytest.raises(TaskRevokedError):
            call.get(timeout=SOON)
        crew.freed("work", f"{name}-{which}")
        assert crew.told.lines("begin", f"{name}-{which}") == []


# ------------------------------------------------------------------------------------- workers that end


def test_a_killed_worker_leaves_its_messages_to_the_next(start_crew: Callable[..., Crew], name: str) -> None:
    """The call that ran is run once more, with its key; the one that waited for its slot is run in that."""
    crew = start_crew(singleton_worker_ttl=4.0)
    worker = crew.worker("-c", "2")
    assert crew.slow_paced.delay(name).get(timeout=SOON)
    waiting = crew.slow_paced.delay(name)
    late = crew.late.delay(f"{name}-late", gate=name)
    crew.begun(f"{name}-late")
    eventually(lambda: slot_is_noted(crew, waiting.id), within=SOON, what="it has got its slot")
    worker.kill()
    crew.worker("-c", "2")
    assert crew.late.delay(f"{name}-late", gate=name).id == late.id
    crew.begun(f"{name}-late", 2)
    assert crew.late.delay(f"{name}-late", gate=name).id == late.id
    crew.told.open(name)
    assert late.get(timeout=SOON) == f"{name}-late done"
    assert len(crew.told.lines("begin", f"{name}-late")) == 2
    assert crew.entry("late", f"{name}-late", gate=name) is None
    assert waiting.get(timeout=SOON) == waiting.id
    taken = slots(crew, name)
    assert len(taken) == 2
    with locksmith.connect(crew.app.conf.locksmith_url) as client:
        after = client.rate_limit("slow_paced", "1/8s").reserve(key=name).at
    # Unless this machine needed longer than the call may be late, and it had to take another slot.
    assert_paced([*taken, after], 8 * SECOND - 1)
    assert after - taken[0] <= 16 * SECOND + 2 or taken[1] - taken[0] > 8 * SECOND + 2


def test_a_connection_that_is_lost_while_a_call_runs(
    start_crew: Callable[..., Crew], rabbitmq_server: RabbitMQServer, name: str
) -> None:
    """The broker delivers it again while it runs: no second run beside it, and none after it."""
    with Proxy(rabbitmq_server.address) as proxy:
        crew = start_crew(proxy.through(rabbitmq_server.url))
        log = crew.worker("-c", "2").log
        first = crew.late.delay(name, gate=name)
        crew.begun(name)
        proxy.reset()
        eventually(
            lambda: f"{first.id}] ignored" in log.read_text(), within=SOON, what="the second delivery is put off"
        )
        assert crew.late.delay(name, gate=name).id == first.id
        crew.told.open(name)
        assert first.get(timeout=SOON) == f"{name} done"
        eventually(lambda: all_were_judged(log.read_text()), within=SOON, what="the second one is gone")
        assert len(crew.told.lines("begin", name)) == 1
        assert crew.entry("late", name, gate=name) is None
        assert crew.late.delay(name).get(timeout=SOON) == f"{name} done"


def all_were_judged(log: str) -> bool:
    """Whether this worker is done with all that it was given: the one that ran, and the others, which did not."""
    return log.count("] received") == log.count("] ignored") + log.count("] succeeded")


# ------------------------------------------------------------------------------------- limits


def test_calls_keep_to_their_rate(crew: Crew, name: str) -> None:
    calls = [crew.paced.delay(name) for _ in range(15)]
    assert [call.get(timeout=SOON) for call in calls] == [call.id for call in calls]
    taken = slots(crew, name)
    assert len(taken) == 15
    assert_paced(taken, SECOND // 10)


def slots(crew: Crew, name: str) -> list[int]:
    words = [line.split() for line in crew.told.lines("begin", name)]
    assert all(int(at) >= int(slot) > 0 for *_, slot, at, _ in words), "none begins before its slot"
    return sorted(int(each[3]) for each in words)


def assert_paced(taken: list[int], interval: int) -> None:
    assert all(later - earlier >= interval for earlier, later in pairwise(taken)), taken


def slot_is_noted(crew: Crew, call: str) -> bool:
    store = wiring_of(crew.app).current_client()._engine.store
    return drive(store.get(places.of_task(f"0:{call}", "slot"))) is not None


# ------------------------------------------------------------------------------------- beat


def send_fire(crew: Crew, name: str, task: str, *args: Any) -> Any:
    sender = Sender(crew.app, "crew")
    entry = Entry(name=name, task=task, schedule=60, args=[name, *args], app=crew.app)
    assert sender.send(entry, MOMENT) == task_id("crew", name, MOMENT)
    sender.close()
    return crew.app.AsyncResult(task_id("crew", name, MOMENT))


@pytest.mark.parametrize("task", ["plain", "work"])
def test_a_second_copy_of_a_fire_is_dropped(crew: Crew, name: str, task: str) -> None:
    fire = send_fire(crew, name, task, "return", name)
    crew.begun(name)
    send_fire(crew, name, task, "return", name)
    crew.told.open(name)
    assert fire.get(timeout=SOON) == f"{name} done"
    send_fire(crew, name, task, "return", name)
    crew.plain.delay(f"{name}-after").get(timeout=SOON)  # a worker takes messages in order
    assert len(crew.told.lines("begin", name)) == 1
    assert (fire.state, fire.result) == (states.SUCCESS, f"{name} done")


# ------------------------------------------------------------------------------------- what its queues tell


def test_messages_in_queues(rabbitmq_server: RabbitMQServer, name: str) -> None:
    """What was delivered and not acknowledged yet is in no queue, and comes back with the end of its connection."""

    def messages() -> list[tuple[str, int, float | None]]:
        return [(one.name, one.messages, one.oldest) for one in look(broker, [f"{name}-unknown", name])]

    queue = kombu.Queue(name, kombu.Exchange(name), routing_key=name, max_priority=9)
    headers: dict[str, Any] = {}
    stamp(headers=headers)
    with kombu.Connection(f"py{rabbitmq_server.url}") as broker:
        with broker.clone() as connection, connection.Producer() as producer:
            queue(connection).declare()
            assert messages() == [(f"{name}-unknown", 0, None), (name, 0, None)]
            for priority in (0, 5, 9):
                producer.publish({}, exchange=queue.exchange, routing_key=name, headers=headers, priority=priority)
        eventually(lambda: messages()[1] == (name, 3, None), within=SOON, what="all have arrived")
        with broker.clone() as connection:
            assert connection.channel().basic_get(name) is not None
            assert messages()[1] == (name, 2, None)
        eventually(lambda: messages()[1] == (name, 3, None), within=SOON, what="it has come back")
