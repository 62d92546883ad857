"""compat="celery-singleton": processes that still run that library, and ours, over one Redis."""

from __future__ import annotations

import uuid
from typing import Any

import celery
import celery_singleton
import pytest
from celery_singleton.backends import redis as their_backend
from celerytasks import add, entry, same, task

import locksmith
from locksmith.celery import DuplicateTaskError, clear_locks, install
from locksmith.celery.ledger import Place
from locksmith.celery.wiring import wiring_of
from locksmith.errors import ConfigurationError
from locksmith.testing.waiting import eventually

pytestmark = [
    pytest.mark.redis,
    pytest.mark.native_threads,
    pytest.mark.filterwarnings("ignore:Call to deprecated"),
]


@pytest.fixture
def prefix():
    return f"SINGLETON_{uuid.uuid4().hex}_"


@pytest.fixture
def new(redis_server, prefix):
    """An application of ours."""
    made = celery.Celery(f"new-{prefix}", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.update(task_default_queue=prefix, singleton_key_prefix=prefix)
    with locksmith.connect(redis_server.url, namespace=prefix) as client:
        install(made, client=client, compat="celery-singleton")
        yield made
        made.close()


@pytest.fixture
def old(redis_server, prefix):
    """An application of theirs."""
    made = celery.Celery(f"old-{prefix}", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.update(task_default_queue=prefix, singleton_key_prefix=prefix)
    backend = their_backend.RedisBackend(redis_server.url)

    def define(fn: Any, **options: Any) -> Any:
        base = type("Theirs", (celery_singleton.Singleton,), {"abstract": True, "_singleton_backend": backend})
        return made.task(shared=False, base=base, **options)(fn)

    define.backend = backend
    yield define
    made.close()
    backend.redis.close()


CALLS: list[tuple[dict[str, Any], list[Any], dict[str, Any]]] = [
    ({}, [1], {}),
    ({}, [1], {"b": 3}),
    ({}, [], {"b": 3, "a": 1}),
    ({"unique_on": []}, [1], {}),
    ({"unique_on": ["a"]}, [1], {}),
    ({"unique_on": "a"}, [], {"a": [1, {"é": None}]}),
    ({"unique_on": ["b", "a"]}, [1, 2], {}),
]


@pytest.mark.parametrize(("options", "args", "kwargs"), CALLS)
def test_they_see_our_calls_and_we_see_theirs(new, old, options, args, kwargs):
    ours, theirs = task(new, add, name="one", **options), old(add, name="one", **options)
    first = ours.apply_async(args, kwargs)
    assert theirs.apply_async(args, kwargs).id == first.id
    wiring_of(new).ledger().erase_of(Place(ours.key_for(*args, **kwargs), "queue"), first.id)
    second = theirs.apply_async(args, kwargs)
    assert second.id != first.id
    assert ours.apply_async(args, kwargs).id == second.id
    theirs.release_lock(args, kwargs)
    assert ours.apply_async(args, kwargs).id not in (first.id, second.id)


def test_compat_may_be_said_after_tasks_were_defined(app):
    one = task(app, same, name="one")
    one.delay(1)
    install(app, compat="celery-singleton")
    with pytest.raises(ConfigurationError, match="needs the Redis server"):
        one.delay(1)


def test_bound_tasks(new, old):
    def run(self: Any, a: int) -> int:
        return a

    ours = task(new, run, name="one", bind=True, unique_on=["a"])
    theirs = old(run, name="one", bind=True, unique_on=["a"])
    assert theirs.delay(1).id == ours.delay(1).id


def test_a_call_of_ours_that_they_have_run_has_ended(new, old):
    """Their workers delete their key, and know nothing of ours."""
    ours, theirs = task(new, same, name="one"), old(same, name="one")
    first = ours.delay(1)
    theirs.on_success(
        None,
        first.id,
        [1],
        {},
    )
    assert entry(new, ours.key_for(1)).id == first.id
    second = ours.delay(1)
    assert second.id != first.id
    assert theirs.delay(1).id == second.id


def test_a_duplicate_of_theirs_gets_what_it_is_to_get(new, old):
    ours, theirs = task(new, same, name="one", raise_on_duplicate=True), old(same, name="one")
    first = theirs.delay(1)
    with pytest.raises(DuplicateTaskError) as caught:
        ours.delay(1)
    assert caught.value.task_id == first.id
    replacing = task(new, same, name="two", singleton_on_duplicate="replace")
    second = old(same, name="two").delay(1)
    assert replacing.delay(1).id == second.id  # nobody can tell whether it runs


def test_a_call_that_could_not_be_published_leaves_nothing_there(new, old, monkeypatch):
    ours, theirs = task(new, same, name="one"), old(same, name="one")

    def fail(*args: Any, **options: Any) -> None:
        raise OSError("no broker")

    with monkeypatch.context() as patch:
        patch.setattr(wiring_of(new), "publish", fail)
        with pytest.raises(OSError, match="no broker"):
            ours.delay(1)
    assert old.backend.get(theirs.generate_lock("one", [1])) is None
    assert theirs.delay(1).id == ours.delay(1).id


def test_lock_expiry_counts_there_too(new, old):
    ours, theirs = task(new, same, name="one", lock_expiry=1), old(same, name="one")
    first = ours.delay(1)
    eventually(lambda: theirs.delay(1).id != first.id, within=40, what="it has expired there")


def test_clearing_takes_their_keys_along(new, old):
    ours, theirs = task(new, same, name="one"), old(same, name="one")
    ours.delay(1)
    clear_locks(new)
    assert old.backend.get(theirs.generate_lock("one", [1])) is None


def test_what_compat_cannot_do(new, app):
    for name, options in (("phase", {"singleton_phase": "until_executing"}), ("most", {"max_queued": 2})):
        with pytest.raises(ConfigurationError, match="singleton_compat"):
            task(new, same, name=name, **options).name
    with pytest.raises(ConfigurationError, match="no key for these arguments"):
        task(new, same, name="one").delay({1, 2})
    with pytest.raises(ConfigurationError, match="singleton_compat is"):
        task(app, same, name="bad", singleton_compat="celery-once").name
    with pytest.raises(ConfigurationError, match="needs the Redis server"):
        task(app, same, name="elsewhere", singleton_compat="celery-singleton").delay(1)


@pytest.mark.slow
class TestWithAWorker:
    """Ours, which runs the calls of both."""

    @pytest.fixture
    def theirs(self, crew, redis_server):
        """The task as an old process has it."""
        made = celery.Celery("old", broker=redis_server.url, backend="cache+memory://", set_as_current=False)
        made.conf.task_default_queue = crew.app.conf.task_default_queue
        backend = their_backend.RedisBackend(redis_server.url)
        base = type("Theirs", (celery_singleton.Singleton,), {"abstract": True, "_singleton_backend": backend})

        def moved(name: str, text: str = "", gate: str | None = None) -> None: ...

        yield made.task(shared=False, base=base, name="moved", unique_on=["name"])(moved)
        made.close()
        backend.redis.close()

    def lock(self, theirs, name):
        return theirs.singleton_backend.get(theirs.generate_lock("moved", [name]))

    def test_our_calls_hold_their_lock_until_they_have_ended(self, crew, theirs, name):
        first = crew.moved.delay(name, "ours", gate=name)
        crew.begun(name)
        assert self.lock(theirs, name) == first.id
        assert theirs.delay(name, "theirs").id == first.id
        crew.told.open(name)
        assert first.get(timeout=40) == "ours"
        assert self.lock(theirs, name) is None

    def test_their_calls_are_run_and_give_their_lock_back(self, crew, theirs, name):
        first = theirs.delay(name, "theirs", gate=name)
        crew.begun(name)
        assert crew.moved.delay(name).id == first.id
        crew.told.open(name)
        eventually(lambda: self.lock(theirs, name) is None, within=40, what="their lock is given back")
        crew.freed("moved", name)
        assert crew.moved.delay(name, "again").get(timeout=40) == "again"
