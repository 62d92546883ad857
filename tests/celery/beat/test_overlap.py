"""Fires of an entry whose last run is not over: sent, left out, or one of them kept waiting."""

from __future__ import annotations

from typing import Any

import pytest
from celeryworkers import Crew

from locksmith.celery.beat.entry import Entry, check_overlap, entry_of
from locksmith.celery.beat.sending import Sender
from locksmith.errors import ConfigurationError

MOMENT = 1_800_000_000_000_000


class Fires:
    """The fires of one entry, one after the other."""

    def __init__(self, crew: Crew, name: str, task: str, overlap: str) -> None:
        given = {"name": name, "gate": name}
        self.entry = Entry(name=name, task=task, schedule=60, kwargs=given, overlap=overlap, app=crew.app)
        check_overlap(self.entry, crew.app)
        self._app = crew.app
        self._moment = MOMENT

    def send(self) -> str | None:
        sender = Sender(self._app, "crew")
        self._moment += 60_000_000
        try:
            return sender.send(self.entry, self._moment)
        finally:
            sender.close()

    def result(self, sent: str | None) -> Any:
        assert sent is not None
        return self._app.AsyncResult(sent).get(timeout=40)


@pytest.mark.redis
def test_skip(crew: Crew, name: str) -> None:
    fires = Fires(crew, name, "work", "skip")
    first = fires.send()
    assert fires.send() is None  # it is queued, or runs already
    crew.begun(name)
    assert fires.send() is None
    crew.told.open(name)
    assert fires.result(first) == f"{name} done"
    assert fires.result(fires.send()) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2


@pytest.mark.redis
def test_buffer(crew: Crew, name: str) -> None:
    fires = Fires(crew, name, "both", "buffer")
    first = fires.send()
    crew.begun(name)
    second = fires.send()
    assert second is not None
    assert fires.send() is None
    crew.told.open(name)
    assert [fires.result(first), fires.result(second)] == [first, second]
    assert len(crew.told.lines("begin", name)) == 2


@pytest.mark.redis
def test_allow(crew: Crew, name: str) -> None:
    fires = Fires(crew, name, "plain", "allow")
    sent = [fires.send(), fires.send()]
    crew.begun(name, 2)
    crew.told.open(name)
    assert [fires.result(each) for each in sent] == [f"{name} done"] * 2


@pytest.mark.redis
@pytest.mark.parametrize(
    ("task", "overlap"), [("plain", "skip"), ("both", "skip"), ("work", "buffer"), ("no such", "skip")]
)
def test_a_task_that_cannot_keep_it_is_refused(crew: Crew, task: str, overlap: str) -> None:
    entry = Entry(name="e", task=task, schedule=60, overlap=overlap, app=crew.app)
    with pytest.raises(ConfigurationError, match="needs base=Singleton"):
        check_overlap(entry, crew.app)


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="overlap policy is one of"):
        entry_of("e", {"task": "t", "schedule": 1, "overlap": "never"}, None)
