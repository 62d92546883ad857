"""A second copy of a fire is dropped by workers; retries and redeliveries of the first one are run."""

from __future__ import annotations

from typing import Any

import pytest
from celeryworkers import Crew

from locksmith.celery.beat.book import task_id
from locksmith.celery.beat.entry import Entry
from locksmith.celery.beat.sending import Sender

pytestmark = pytest.mark.redis
MOMENT = 1_800_000_000_000_000


class Fires:
    """What beats do that send the fires of one entry."""

    def __init__(self, crew: Crew, name: str, task: str, *args: Any) -> None:
        self.entry = Entry(name=name, task=task, schedule=60, args=[name, *args], app=crew.app)
        self.id = task_id("crew", name, MOMENT)
        self._crew = crew

    def send(self) -> None:
        sender = Sender(self._crew.app, "crew")
        assert sender.send(self.entry, MOMENT) == self.id
        sender.close()

    @property
    def result(self) -> Any:
        return self._crew.app.AsyncResult(self.id)


def all_were_received(crew: Crew, name: str) -> None:
    """A worker takes messages in order: when it runs this one, it has judged those before."""
    crew.plain.delay(f"{name}-after").get(timeout=40)


@pytest.mark.parametrize("task", ["plain", "work"])
def test_a_second_copy_is_dropped_while_the_first_runs(crew: Crew, name: str, task: str) -> None:
    fires = Fires(crew, name, task, "return", name)
    fires.send()
    crew.begun(name)
    fires.send()
    all_were_received(crew, name)
    crew.told.open(name)
    assert fires.result.get(timeout=40) == f"{name} done"
    all_were_received(crew, name)
    assert len(crew.told.lines("begin", name)) == 1


def test_a_second_copy_is_dropped_after_the_first_was_completed_and_leaves_its_result(crew: Crew, name: str) -> None:
    fires = Fires(crew, name, "plain")
    fires.send()
    assert fires.result.get(timeout=40) == f"{name} done"
    fires.send()
    all_were_received(crew, name)
    assert len(crew.told.lines("begin", name)) == 1
    assert (fires.result.state, fires.result.result) == ("SUCCESS", f"{name} done")


def test_a_retry_of_a_fire_is_run(crew: Crew, name: str) -> None:
    fires = Fires(crew, name, "plain", "retry")
    fires.send()
    assert fires.result.get(timeout=40) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2


def test_a_fire_that_is_delivered_again_is_run_again(crew: Crew, name: str) -> None:
    """Its child was killed before it was done, and the message is given back to the broker."""
    fires = Fires(crew, name, "loyal_plain", "die-once")
    fires.send()
    assert fires.result.get(timeout=40) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2


def test_other_fires_of_the_entry_are_run(crew: Crew, name: str) -> None:
    fires = Fires(crew, name, "plain")
    fires.send()
    sender = Sender(crew.app, "crew")
    later = sender.send(fires.entry, MOMENT + 1)
    sender.close()
    assert crew.app.AsyncResult(later).get(timeout=40) == f"{name} done"
    crew.begun(name, 2)
