"""replace, keep_last and max_queued: what becomes of the older call, and of the newer one."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery import chain, chord, states
from celery.exceptions import TaskRevokedError
from celerytasks import entry, messages, task

from locksmith.celery import DuplicateTaskError
from locksmith.celery.entries import Entry, here
from locksmith.celery.ledger import Place
from locksmith.celery.wiring import wiring_of
from locksmith.errors import ConfigurationError
from locksmith.testing.waiting import eventually

# Celery's Redis backend writes by a command that redis-py deprecates.
pytestmark = [pytest.mark.native_threads, pytest.mark.filterwarnings("ignore:Call to deprecated setex")]
with_workers = [pytest.mark.redis, pytest.mark.slow]
SOON = 40.0


def text(a: int, words: str = "") -> str:
    return words


def begins(app: Any, one: Any, task_id: str, *args: Any, what: str = "queue") -> None:
    """As if a worker had begun this call."""
    place = Place(one.key_for(*args), what)
    running = Entry(task_id, one.name, "running", here(), time.time())
    wiring_of(app).ledger().write(place, running, wiring_of(app).ledger().read(place))


# Publishing.


def test_replace_takes_the_place_of_a_call_that_is_queued(app):
    one = task(app, text, name="one", unique_on=["a"], singleton_on_duplicate="replace")
    old, new = one.delay(1, "old"), one.delay(1, "new")
    assert old.id != new.id
    assert entry(app, one.key_for(1)).id == new.id
    assert messages(app) == 2
    with pytest.raises(TaskRevokedError):
        old.get(timeout=SOON)
    assert one.delay(2).id != new.id


def test_a_running_call_is_never_replaced(app):
    one = task(app, text, name="one", unique_on=["a"], singleton_on_duplicate="replace")
    old = one.delay(1, "old")
    begins(app, one, old.id, 1)
    assert one.delay(1, "new").id == old.id
    assert messages(app) == 1
    assert old.state == states.PENDING


def test_replace_for_one_call(app):
    one = task(app, text, name="one", unique_on=["a"], raise_on_duplicate=True)
    old = one.delay(1)
    with pytest.raises(DuplicateTaskError):
        one.delay(1)
    new = one.apply_async([1], singleton={"on_duplicate": "replace"})
    assert entry(app, one.key_for(1)).id == new.id != old.id


def test_replace_for_the_application(app):
    app.conf.singleton_on_duplicate = "replace"
    one = task(app, text, name="one")
    assert one.delay(1).id != one.delay(1).id


def test_a_call_that_could_not_be_published_replaces_nothing(app, monkeypatch):
    one = task(app, text, name="one", unique_on=["a"], singleton_on_duplicate="replace")
    old = one.delay(1, "old")

    def fail(*args: Any, **options: Any) -> None:
        raise OSError("no broker")

    with monkeypatch.context() as patch:
        patch.setattr(wiring_of(app), "publish", fail)
        with pytest.raises(OSError, match="no broker"):
            one.delay(1, "new")
    assert old.state == states.PENDING
    assert wiring_of(app).ledger().buried(old.id) is None
    assert entry(app, one.key_for(1)) is None  # the old one takes its key again when a worker begins it


def test_keep_last_has_one_running_and_one_waiting(app):
    one = task(app, text, name="one", unique_on=["a"], singleton_on_duplicate="keep_last")
    first = one.delay(1, "first")
    begins(app, one, first.id, 1, what="run")
    wiring_of(app).ledger().erase_of(Place(one.key_for(1), "queue"), first.id)
    second, third = one.delay(1, "second"), one.delay(1, "third")
    assert len({first.id, second.id, third.id}) == 3
    assert entry(app, one.key_for(1)).id == third.id
    assert entry(app, one.key_for(1), "run").id == first.id
    assert second.state == states.REVOKED


def test_max_queued(app):
    one = task(app, text, name="one", unique_on=["a"], max_queued=3)
    made = [one.delay(1, str(number)).id for number in range(5)]
    assert len(set(made[:3])) == 3
    assert made[3] == made[4] == made[0]
    assert messages(app) == 3
    wiring_of(app).ledger().erase_of(Place(one.key_for(1), "queue1"), made[1])
    assert one.delay(1).id not in made
    assert one.delay(1).id == made[0]


def test_max_queued_for_one_call_and_with_replace(app):
    one = task(app, text, name="one", unique_on=["a"])
    first = one.delay(1)
    second = one.apply_async([1], singleton={"max_queued": 2})
    assert second.id != first.id
    begins(app, one, first.id, 1)
    third = one.apply_async([1], singleton={"max_queued": 2, "on_duplicate": "replace"})
    assert entry(app, one.key_for(1), "queue1").id == third.id
    assert entry(app, one.key_for(1)).id == first.id
    with pytest.raises(ConfigurationError, match="singleton_max_queued"):
        one.apply_async([1], singleton={"max_queued": 0})


# With workers.


class TestWithWorkers:
    pytestmark = with_workers

    def test_the_replaced_call_never_runs(self, crew, name):
        """Also where its message comes when the new one has ended."""
        old = crew.newest.apply_async([name, "old"], countdown=2)
        new = crew.newest.delay(name, "new")
        assert new.get(timeout=SOON) == "new"
        with pytest.raises(TaskRevokedError):
            old.get(timeout=SOON)
        log = crew.workers[0].log
        eventually(lambda: f"{old.id}] ignored" in log.read_text(), within=SOON, what="the old one has come")
        assert [line.split()[2] for line in crew.told.lines("begin", name)] == ["new"]
        crew.freed("newest", name)

    def test_what_comes_after_a_replaced_call_ends_too(self, crew, name):
        old = chain(crew.newest.s(name, "old").set(countdown=1), crew.add.s("after")).delay()
        body = chord([crew.newest.s(name + "2", "old").set(countdown=1), crew.add.s("x")])(crew.collect.s())
        news = [crew.newest.delay(name, "new"), crew.newest.delay(name + "2", "new")]
        assert [new.get(timeout=SOON) for new in news] == ["new", "new"]
        for result in (old, body):
            with pytest.raises(Exception, match=r"equal call|has replaced it"):
                result.get(timeout=SOON)

    def test_a_follower_of_a_replaced_call_follows_the_new_one(self, crew, name):
        first = crew.newest.apply_async([name, "old"], countdown=60)
        follower = chain(
            crew.newest.s(name, "none").set(singleton={"on_duplicate": "return"}), crew.add.s("after")
        ).delay()
        new = crew.newest.delay(name, "new", gate=name)
        crew.begun(name)
        crew.told.open(name)
        assert new.get(timeout=SOON) == "new"
        assert follower.get(timeout=SOON) == "new+after"
        assert first.state == states.REVOKED

    def test_keep_last(self, crew, name):
        first = crew.last.delay(name, "first", gate=name)
        crew.begun(name)
        others = [crew.last.delay(name, text) for text in ("second", "third", "fourth")]
        crew.told.open(name)
        assert first.get(timeout=SOON) == "first"
        assert others[-1].get(timeout=SOON) == "fourth"
        for one in others[:-1]:
            with pytest.raises(TaskRevokedError):
                one.get(timeout=SOON)
        crew.freed("last", name)
        assert [line.split()[2] for line in crew.told.lines("begin", name)] == ["first", "fourth"]

    def test_max_queued(self, crew, name):
        calls = [crew.couple.delay(name, str(number), gate=name) for number in range(3)]
        crew.begun(name, 2)
        assert len({call.id for call in calls}) == 2
        crew.told.open(name)
        assert {call.get(timeout=SOON) for call in calls} == {"0", "1"}
        for slot in ("queue", "queue1"):
            eventually(lambda slot=slot: crew.entry("couple", name, what=slot) is None, within=SOON)
