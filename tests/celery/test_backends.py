"""A result backend that is missing, is away, or has lost a result: nobody hangs for that, and nothing runs twice."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import chain
from celery.exceptions import Ignore
from celerytasks import add, entry, task
from celeryworkers import Crew
from kombu.exceptions import DecodeError

from locksmith.celery.following import follow
from locksmith.celery.marks import Mark
from locksmith.celery.plan import plan_of
from locksmith.celery.wiring import wiring_of

pytestmark = pytest.mark.native_threads
SOON = 40.0


@pytest.mark.redis
@pytest.mark.slow
def test_without_a_backend(tmp_path, redis_server, name):
    crew = Crew(tmp_path, redis_server.url, "disabled://", redis_server.url)
    try:
        crew.worker("-c", "2")
        first = crew.work.delay(name, gate=name)
        crew.begun(name)
        again = crew.work.delay(name, gate=name)
        assert again.id == first.id
        with pytest.raises(NotImplementedError, match="No result backend"):
            again.get(timeout=SOON)
        chain(crew.work.si(name, gate=name), crew.work.si(f"{name}-next")).delay()
        crew.told.open(name)
        crew.begun(f"{name}-next")
        crew.freed("work", name, gate=name)
        journal = (crew.folder / "journal").read_text().splitlines()
        steps = [line.split()[0] for line in journal if name in line.split()]
        assert steps == ["begin", "end"] * 2, "one after the other: the one in the chain could not learn its result"
    finally:
        crew.close()


@pytest.fixture
def follower(app, monkeypatch):
    """A call that runs, and the message of a duplicate of it that somebody relies on, in a worker's hands."""
    one = task(app, add, name="one", bind=False)
    first = one.delay(1)
    back = []

    def again(request, **options):
        return SimpleNamespace(apply_async=lambda: back.append(options["singleton"]))

    monkeypatch.setattr(one, "signature_from_request", again)
    request = SimpleNamespace(id="follower", retries=0)
    mark = Mark(one.key_for(1), after=first.id)
    return SimpleNamespace(
        task=one, first=first, back=back, ledger=wiring_of(app).ledger(),
        follow=lambda mark=mark: follow(plan_of(one), request, mark, wiring_of(app).ledger()),
    )  # fmt: skip


def test_a_backend_that_does_not_answer_is_asked_later(follower, monkeypatch, caplog):
    def away(*args, **kwargs):
        raise ConnectionError("no backend")

    follower.task.backend.mark_as_done(follower.first.id, 3)
    with monkeypatch.context() as patch:
        patch.setattr(follower.task.backend, "get_task_meta", away)
        for _ in range(10):
            with pytest.raises(Ignore, match="comes back"):
                follower.follow()
    assert len(follower.back) == 10
    assert "no backend" in caplog.text
    assert follower.follow() == (True, 3)


def test_a_result_that_is_lost_is_waited_for_until_the_key_is_free_and_a_little_longer(follower):
    with pytest.raises(Ignore, match="comes back"):
        follower.follow()
    place = plan_of(follower.task).queue(follower.task.key_for(1))
    assert follower.ledger.erase_of(place, follower.first.id)
    outcomes = 0
    while True:
        try:
            assert follower.follow(follower.back[-1]) == (False, None), "it runs itself"
            break
        except Ignore:
            outcomes += 1
    assert 1 <= outcomes <= 5


def test_a_backend_that_is_away_when_a_call_is_published(app, monkeypatch):
    """A duplicate asks no backend; nor does a call that replaces another one need it."""
    one = task(app, add, name="one", singleton_on_duplicate="replace")

    def away(*args, **kwargs):
        raise ConnectionError("no backend")

    first = one.delay(1)
    for what in ("get_task_meta", "store_result", "mark_as_revoked"):
        monkeypatch.setattr(one.backend, what, away)
    second = one.delay(1)
    assert second.id != first.id
    assert entry(app, one.key_for(1)).id == second.id


def test_a_result_that_cannot_be_read_ends_the_follower(follower, monkeypatch):
    def garbled(*args, **kwargs):
        raise DecodeError("no JSON")

    monkeypatch.setattr(follower.task.backend, "get_task_meta", garbled)
    with pytest.raises(DecodeError):
        follower.follow()
    assert not follower.back
