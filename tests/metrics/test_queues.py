"""Queues of a broker: how many messages, and how old, on the transports of kombu that can run here."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
from prometheus_client import CollectorRegistry, generate_latest

import locksmith
from locksmith.metrics import QueueCollector, stamp
from locksmith.metrics.queues import PUBLISHED, look

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def publish(broker: Any, queue: str, *, age: float | None = None, **settings: Any) -> None:
    headers: dict[str, Any] = {}
    if age is not None:
        stamp(headers=headers, sender="tasks.add", body=())
        headers[PUBLISHED] -= age
    with broker.clone() as connection, connection.Producer() as producer:
        where = kombu.Queue(queue, kombu.Exchange(queue), routing_key=queue)
        producer.publish({}, exchange=where.exchange, routing_key=queue, declare=[where], headers=headers, **settings)


def take(broker: Any, queue: str) -> None:
    with broker.clone() as connection:
        message = connection.channel().basic_get(queue)
        message.ack()


@pytest.fixture(params=["", "prefix-"])
def redis_broker(request: pytest.FixtureRequest, redis_server: Any) -> Iterator[Any]:
    prefix = f"{request.param}{uuid.uuid4().hex}:" if request.param else ""
    with kombu.Connection(redis_server.url, transport_options={"global_keyprefix": prefix}) as broker:
        yield broker


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "messages").mkdir()
    (tmp_path / "control").mkdir()
    options = {
        "data_folder_in": str(tmp_path / "messages"),
        "data_folder_out": str(tmp_path / "messages"),
        "control_folder": str(tmp_path / "control"),
    }
    with kombu.Connection("filesystem://", transport_options=options) as broker:
        yield broker


@pytest.fixture
def queue() -> str:
    return f"queue-{uuid.uuid4().hex}"


@pytest.mark.redis
def test_redis(redis_broker: Any, queue: str) -> None:
    assert [(one.messages, one.oldest) for one in look(redis_broker, [queue])] == [(0, None)]
    publish(redis_broker, queue, age=300.0)
    publish(redis_broker, queue, age=1000.0, priority=9)
    publish(redis_broker, queue, age=5.0)
    (found,) = look(redis_broker, [queue])
    assert found.messages == 3
    assert found.oldest is not None
    assert 1000.0 <= found.oldest < 1100.0
    take(redis_broker, queue)  # kombu's lowest number goes first, and in its list the oldest
    (found,) = look(redis_broker, [queue])
    assert found.messages == 2
    take(redis_broker, queue)
    take(redis_broker, queue)
    assert [(one.messages, one.oldest) for one in look(redis_broker, [queue])] == [(0, None)]


@pytest.mark.redis
def test_messages_on_redis_that_were_not_stamped_have_no_age(redis_broker: Any, queue: str) -> None:
    publish(redis_broker, queue)
    (found,) = look(redis_broker, [queue])
    assert (found.messages, found.oldest) == (1, None)


@pytest.mark.redis
def test_whatever_else_lies_in_a_list_has_no_age(redis_server: Any, queue: str) -> None:
    import redis

    with redis.Redis.from_url(redis_server.url) as raw, kombu.Connection(redis_server.url) as broker:
        for junk in ("not json", "[1]", '{"headers": null}', f'{{"headers": {{"{PUBLISHED}": "x"}}}}'):
            raw.lpush(queue, junk)
            (found,) = look(broker, [queue])
            assert (found.messages, found.oldest) == (1, None)
            raw.delete(queue)


def test_a_folder(folder: Any, queue: str, tmp_path: Path) -> None:
    assert [(one.messages, one.oldest) for one in look(folder, [queue])] == [(0, None)]
    publish(folder, queue)
    publish(folder, queue)
    publish(folder, f"{queue}-other")
    old = min((tmp_path / "messages").glob(f"*.{queue}.msg"))
    os.utime(old, (time.time() - 500, time.time() - 500))
    (found,) = look(folder, [queue])
    assert found.messages == 2
    assert found.oldest is not None
    assert 499.0 <= found.oldest < 600.0


def test_a_transport_that_cannot_tell_ages(queue: str) -> None:
    with kombu.Connection("memory://") as broker:
        assert [(one.messages, one.oldest) for one in look(broker, [queue])] == [(0, None)]
        publish(broker, queue, age=7.0)
        assert [(one.messages, one.oldest) for one in look(broker, [queue])] == [(1, None)]


def test_a_stamp_is_renewed_with_each_publication() -> None:
    headers = {PUBLISHED: 1.0, "id": "x"}
    stamp(headers=headers, sender="tasks.add", properties={})
    assert time.time() - 100 < headers[PUBLISHED] <= time.time()  # type: ignore[operator]
    stamp(sender="tasks.add")


# ------------------------------------------------------------------------------------- the collector


def test_the_collector(folder: Any, queue: str) -> None:
    registry = CollectorRegistry()
    registry.register(QueueCollector(folder, [queue, "empty"]))
    publish(folder, queue)
    read = registry.get_sample_value
    assert read("locksmith_broker_up") == 1
    assert read("locksmith_queue_messages", {"queue": queue}) == 1
    assert read("locksmith_queue_messages", {"queue": "empty"}) == 0
    assert (read("locksmith_queue_oldest_seconds", {"queue": queue}) or -1) >= 0
    assert read("locksmith_queue_oldest_seconds", {"queue": "empty"}) is None


def test_a_broker_that_is_gone_fails_no_scrape(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    caplog.set_level(logging.WARNING, "locksmith.metrics")
    with kombu.Connection("redis://:hunter2@localhost:1/0") as broker:
        registry.register(QueueCollector(broker, "celery"))
        for _ in range(2):
            text = generate_latest(registry).decode()
            assert "locksmith_broker_up 0.0" in text
            assert "locksmith_queue_messages" not in text
    (record,) = [record for record in caplog.records if record.name == "locksmith.metrics"]
    assert "hunter2" not in record.getMessage()


def test_registering_asks_nobody() -> None:
    class Untouched:
        def clone(self) -> Any:
            raise AssertionError("asked")

    registry = CollectorRegistry()
    registry.register(QueueCollector(Untouched(), ["celery"]))
    text = PAGE.read_text("utf-8")
    for family in QueueCollector(Untouched(), ["celery"]).describe():
        assert f"| `{family.name}` | gauge |" in text


def test_no_queue_is_refused() -> None:
    with pytest.raises(locksmith.ConfigurationError, match="name the queues"):
        QueueCollector(None, [])  # type: ignore[arg-type]
