"""What `celery beat -S locksmith` makes of an application, and how a beat begins and ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.beat import Service
from celery.schedules import crontab

import locksmith
from locksmith.celery.beat import LocksmithScheduler
from locksmith.celery.beat.notices import ELECTION
from locksmith.errors import ConfigurationError
from locksmith.testing.waiting import eventually

pytestmark = pytest.mark.native_threads


@pytest.fixture
def app(tmp_path: Any) -> Celery:
    app = Celery("proj", broker="memory://", set_as_current=False)
    app.conf.locksmith_url = f"sqlite:///{tmp_path}/locks.db"
    app.conf.beat_schedule = {"e": {"task": "t", "schedule": 3600.0, "misfire": "all"}}
    return app


@pytest.fixture
def schedulers() -> Iterator[list[LocksmithScheduler]]:
    made: list[LocksmithScheduler] = []
    yield made
    for scheduler in made:
        scheduler.close()


def test_celery_finds_it_by_its_name(app: Celery) -> None:
    scheduler = Service(app, scheduler_cls="locksmith").get_scheduler(lazy=True)
    assert type(scheduler) is LocksmithScheduler


def test_one_that_does_not_lead_has_read_no_schedule_and_asked_nobody(app: Celery) -> None:
    app.conf.locksmith_url = "redis://:secret@127.0.0.1:1/0"
    scheduler = LocksmithScheduler(app)
    assert scheduler.schedule == {}
    assert "redis://" in scheduler.info
    assert "secret" not in scheduler.info


def test_the_schedule_is_what_celery_knows_and_what_was_added(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    app.add_periodic_task(crontab(minute=0), app.signature("hourly"), name="hourly")
    added = {
        "ping": {"task": "ping", "schedule": 60, "overlap": "allow"},
        "weekly": {"task": "weekly", "schedule": "0 6 * * mon"},
        "broken": {"task": "broken", "schedule": "now and then"},
    }
    with caplog.at_level(logging.WARNING):
        entries = {entry.name: entry for entry in LocksmithScheduler(app).load(added)}
    assert set(entries) == {"e", "hourly", "ping", "weekly"}
    assert entries["e"].misfire.policy == "all"
    assert entries["weekly"].schedule == crontab(minute=0, hour=6, day_of_week="mon")
    assert "'broken' is left out" in caplog.text


@pytest.mark.parametrize(
    ("setting", "value"),
    [("ttl", 0), ("ttl", "10"), ("mode", "both"), ("misfire", "never"), ("shards", 0), ("shards", 65), ("name", 3)],
)
def test_settings_that_cannot_work_are_refused_at_once(app: Celery, setting: str, value: object) -> None:
    app.conf[f"locksmith_beat_{setting}"] = value
    with pytest.raises(ConfigurationError):
        LocksmithScheduler(app)


def test_without_a_store_it_says_what_to_set(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCKSMITH_URL", raising=False)
    app.conf.locksmith_url = None
    with pytest.raises(ConfigurationError, match="locksmith_url"):
        LocksmithScheduler(app)


def test_it_leads_while_it_ticks_and_resigns_when_it_is_closed(
    app: Celery, schedulers: list[LocksmithScheduler]
) -> None:
    scheduler = LocksmithScheduler(app)
    schedulers.append(scheduler)
    with locksmith.connect(app.conf.locksmith_url) as client:
        election = client.election(f"{ELECTION}proj")
        assert scheduler.tick() == 0
        eventually(lambda: election.leader() is not None, within=20, what="it leads")
        scheduler.close()
        assert election.leader() is None
        assert client.lock(f"{ELECTION}proj").try_acquire() is not None  # at once, and not after its ttl


def test_a_schedule_that_cannot_work_ends_it_with_the_reason(app: Celery, schedulers: list[LocksmithScheduler]) -> None:
    app.conf.beat_schedule = {"e": {"task": "unknown", "schedule": 60, "overlap": "skip"}}
    scheduler = LocksmithScheduler(app)
    schedulers.append(scheduler)
    with pytest.raises(ConfigurationError, match="needs base=Singleton"):
        list(map(scheduler.tick, range(30)))


def test_a_store_that_is_away_at_the_start_is_waited_for(
    app: Celery, schedulers: list[LocksmithScheduler], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    app.conf.locksmith_url = f"redis://127.0.0.1:{port}/0"
    scheduler = LocksmithScheduler(app)
    schedulers.append(scheduler)
    scheduler.tick()
    eventually(lambda: "nobody can be elected now" in caplog.text, within=20, what="it says so")
    scheduler.tick()
    assert scheduler._beat is not None
    assert scheduler._beat.stop(20)
