"""Publishing, without a worker: what gets a key, what is a duplicate, and what is left behind when something fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import celery
import pytest
from celery.exceptions import Ignore
from celerytasks import add, entry, fixed, messages, same, task

import locksmith
from locksmith.celery import DuplicateTaskError, Singleton, clear_locks, install
from locksmith.celery.wiring import wiring_of
from locksmith.errors import ConfigurationError, StoreUnavailable
from locksmith.testing.waiting import eventually

pytestmark = pytest.mark.native_threads


# Keys.


def test_equal_calls_have_one_key_however_they_are_written(app):
    one = task(app, add, name="one")
    first = one.delay(1)
    for args, kwargs in [((1, 2), {}), ((1,), {"b": 2}), ((), {"b": 2, "a": 1})]:
        assert one.apply_async(args, kwargs).id == first.id
    others = [one.delay(1.0).id, one.delay(True).id, one.delay(1, 2, 3).id, one.delay(1, c=3).id]
    assert len({first.id, *others}) == 5
    assert messages(app) == 5


def test_the_key_begins_with_the_name_of_the_task(app):
    assert task(app, add, name="some.name").key_for(1).startswith("some.name:v1:")


def test_the_key_of_a_bound_task_leaves_self_out(app):
    def run(self, a):
        return a

    bound = task(app, run, name="t", bind=True)
    assert bound.key_for(1) == bound.key_for(a=1)
    plain = celery.Celery("other", set_as_current=False)
    assert task(plain, same, name="t").key_for(1) == bound.key_for(1)


def test_a_class_based_task(app):
    class Sum(Singleton):
        name = "sum"

        def run(self, a: int, b: int) -> int:
            return a + b

    made = app.register_task(Sum())
    assert made.delay(1, 2).id == made.delay(1, b=2).id


def test_unique_on(app):
    some = task(app, add, name="some", unique_on=["a", "c"])
    assert some.delay(1, 2, c=1).id == some.delay(1, 3, c=1, d=5).id
    assert some.delay(1).id != some.delay(2).id
    none = task(app, add, name="none", unique_on=[])
    assert none.delay(1).id == none.delay(2).id


def test_a_key_across_tasks(app):
    one = task(app, add, name="one", singleton_key="add:{a}")
    two = task(app, add, name="two", singleton_key=lambda a, b=2: f"add:{a}")
    assert one.delay(1).id == two.delay(1, 5).id
    assert one.key_for(1) == "add:1"


def test_a_key_for_one_call(app):
    one = task(app, add, name="one")
    first = one.apply_async([1], singleton={"key": "mine"})
    assert one.apply_async([2], singleton={"key": "mine"}).id == first.id
    assert one.delay(1).id != first.id


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unique_on": ["x"]}, "no argument 'x'"),
        ({"singleton_key": "{x}"}, "names no argument"),
        ({"singleton_key": "{a}", "unique_on": ["a"]}, "exclude each other"),
        ({"singleton_phase": "for_ever"}, "singleton_phase is one of"),
        ({"singleton_on_duplicate": "nothing"}, "singleton_on_duplicate is one of"),
        ({"singleton_on_duplicate": "replace", "singleton_phase": "while_executing"}, "knows none"),
        ({"singleton_on_duplicate": "keep_last", "singleton_phase": "until_executed"}, "at most one waiting"),
        ({"singleton_on_duplicate": "keep_last", "singleton_on_conflict": "drop"}, "at most one waiting"),
        ({"singleton_on_duplicate": "keep_last", "max_queued": 2}, "at most one waiting"),
        ({"singleton_max_queued": 0}, "singleton_max_queued"),
        ({"singleton_max_queued": "5"}, "singleton_max_queued"),
        ({"max_queued": 2, "singleton_phase": "while_executing"}, "any number may be queued"),
        ({"singleton_phase": "until_expired"}, "singleton_ttl"),
        ({"singleton_ttl": 5}, "singleton_ttl"),
        ({"singleton_queue_ttl": -1}, "singleton_queue_ttl"),
        ({"lock_expiry": -5}, "singleton_queue_ttl"),
        ({"lock_expiry": 5, "singleton_queue_ttl": 5}, "another name"),
        ({"singleton_encoder": "no.such.module:thing"}, "nothing can be imported"),
        ({"singleton_encoder": 5}, "is a callable"),
        ({"singleton_encoder": dict, "singleton_key": "{a}"}, "without singleton_key"),
        ({"singleton_encoder": dict, "unique_on": ["x"]}, "no argument 'x'"),
    ],
)
def test_settings_that_cannot_work(app, options, words):
    with pytest.raises(ConfigurationError, match=words):
        task(app, fixed, name="bad", **options).name  # Celery defines it now


def test_settings_of_the_application(app):
    app.conf.singleton_on_duplicate = "raise"
    one = task(app, add, name="one")
    two = task(app, add, name="two", singleton_on_duplicate="return")
    one.delay(1)
    with pytest.raises(DuplicateTaskError):
        one.delay(1)
    assert two.delay(1).id == two.delay(1).id
    app.conf.singleton_backend_class = "x"
    with pytest.raises(ConfigurationError, match="locksmith_url"):
        task(app, add, name="three").name


def test_raise_on_duplicate_as_others_spell_it(app):
    one = task(app, add, name="one", raise_on_duplicate=True)
    first = one.delay(1)
    with pytest.raises(DuplicateTaskError) as caught:
        one.delay(1)
    assert caught.value.task_id == first.id


@pytest.mark.parametrize("given", [{"ttl": 1}, {"key": ""}, {"key": 5}, "x", {"on_duplicate": "keep_last"}])
def test_options_of_a_call_that_cannot_work(app, given):
    with pytest.raises(ConfigurationError):
        task(app, add, name="one").apply_async([1], singleton=given)
    assert messages_or_none(app) == 0


def messages_or_none(app):
    try:
        return messages(app)
    except Exception:
        return 0  # the queue was never declared


def test_arguments_that_have_no_form(app):
    with pytest.raises(ConfigurationError, match="cannot be part of a key") as caught:
        task(app, add, name="one").delay(object())
    assert 'singleton_key="name:{a.id}"' in str(caught.value)
    assert "run_once" not in str(caught.value)


def test_arguments_that_do_not_fit(app):
    with pytest.raises(TypeError):
        task(app, add, name="one").delay()
    with pytest.raises(TypeError):
        app.send_task("one")


def test_arguments_of_a_duplicate_that_do_not_fit(app):
    one = task(app, fixed, name="one", singleton_key=lambda *args, **kwargs: "always")
    one.delay(1)
    with pytest.raises(TypeError):
        one.delay()
    one.delay(2)


def test_singleton_for_a_task_that_is_none(app):
    app.task(shared=False, name="plain")(same)
    with pytest.raises(ConfigurationError, match="base is Singleton"):
        app.send_task("plain", singleton={"key": "x"})
    assert app.send_task("plain").id != app.send_task("plain").id


def test_no_store_is_known(monkeypatch):
    monkeypatch.delenv("LOCKSMITH_URL", raising=False)
    lonely = celery.Celery("lonely", broker="memory://", set_as_current=False)
    with pytest.raises(ConfigurationError, match="locksmith_url"):
        task(lonely, add, name="one").delay(1)


def test_the_url_comes_from_the_configuration_and_also_by_djangos_namespace(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCKSMITH_URL", "nonsense://")
    django = celery.Celery("django", broker="memory://", set_as_current=False)
    settings = {"CELERY_LOCKSMITH_URL": f"sqlite:///{tmp_path}/locks.db", "CELERY_SINGLETON_ON_DUPLICATE": "raise"}
    django.config_from_object(type("settings", (), settings), namespace="CELERY")
    one = task(django, add, name="one")
    one.delay(1)
    with pytest.raises(DuplicateTaskError):
        one.delay(1)
    wiring_of(django)._source.get().close()


@pytest.fixture
def lazy(tmp_path):
    """An application of which nothing was used yet: Celery has made none of its tasks, and nobody has installed us."""
    made = celery.Celery("lazy", broker="memory://", set_as_current=False)
    made.conf.locksmith_url = f"sqlite:///{tmp_path}/locks.db"
    yield made
    source = wiring_of(made)._source
    if source is not None:
        source.get().close()


def test_by_name_before_celery_has_made_the_task(lazy):
    """As `celery call` does it, and a process whose first call is by name."""
    one = task(lazy, add, name="one")
    first = lazy.send_task("one", [1])
    assert lazy.send_task("one", [1]).id == one.delay(1).id == first.id


def test_by_name_when_the_settings_of_the_task_cannot_work(lazy):
    task(lazy, fixed, name="bad", unique_on=["x"])
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="no argument 'x'"):
            lazy.send_task("bad", [1])


def test_install_twice(app):
    send = app.send_task
    install(app)
    assert app.send_task is send
    with pytest.raises(ConfigurationError, match="another client"):
        install(app, client=locksmith.connect("memory://"))


# What is left behind.


def test_a_call_that_could_not_be_published_leaves_nothing(app, monkeypatch):
    one = task(app, add, name="one")
    publish = wiring_of(app).publish

    def fail(*args: Any, **options: Any) -> None:
        raise OSError("no broker")

    monkeypatch.setattr(wiring_of(app), "publish", fail)
    with pytest.raises(OSError, match="no broker"):
        one.delay(1)
    assert entry(app, one.key_for(1)) is None
    monkeypatch.setattr(wiring_of(app), "publish", publish)
    assert one.delay(1).id


def test_a_reply_that_got_lost_leaves_nothing(app, monkeypatch):
    """The store has taken the key, and did not say so: nothing was published, and the next call finds the key free."""
    one = task(app, add, name="one")
    store = wiring_of(app).ledger()._engine.store
    put = store.put

    async def lose(*args: Any, **options: Any) -> int:
        await put(*args, **options)
        raise StoreUnavailable("the reply got lost")

    monkeypatch.setattr(store, "put", lose)
    with pytest.raises(StoreUnavailable):
        one.delay(1)
    assert entry(app, one.key_for(1)) is not None
    monkeypatch.setattr(store, "put", put)
    two = one.delay(1)
    assert entry(app, one.key_for(1)).id == two.id
    assert messages(app) == 1


def test_the_store_is_down(app, monkeypatch, caplog):
    strict = task(app, add, name="strict")
    lax = task(app, add, name="lax", singleton_on_store_error="run")
    store = wiring_of(app).ledger()._engine.store

    async def down(*args: Any) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(store, "get", down)
    with pytest.raises(StoreUnavailable):
        strict.delay(1)
    assert messages_or_none(app) == 0
    assert lax.delay(1).id != lax.delay(1).id
    assert messages(app) == 2
    assert "published without its key" in caplog.text


def test_a_retry_is_published_even_if_the_store_is_down(app, monkeypatch):
    one = task(app, add, name="one")
    first = one.delay(1)
    store = wiring_of(app).ledger()._engine.store

    async def down(*args: Any) -> None:
        raise StoreUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(store, "get", down)
        assert one.apply_async([1], task_id=first.id, retries=1).id == first.id
        with pytest.raises(StoreUnavailable):
            one.apply_async([1], task_id=first.id)
    assert messages(app) == 2
    assert one.delay(1).id == first.id  # and none of that has taken its key away


def test_how_long_a_queued_call_keeps_its_key(app, monkeypatch):
    store = wiring_of(app).ledger()._engine.store
    ttls = []
    put = store.put

    async def watch(*args: Any, **options: Any) -> int:
        ttls.append(options["ttl"])
        return await put(*args, **options)

    monkeypatch.setattr(store, "put", watch)
    for_ever = task(app, add, name="for_ever")
    bounded = task(app, add, name="bounded", singleton_queue_ttl=100)
    kept = task(app, add, name="kept", singleton_phase="until_expired", singleton_ttl=7)
    for_ever.delay(1)
    for_ever.apply_async([2], expires=30)
    for_ever.apply_async([3], expires=datetime.now(UTC) + timedelta(seconds=30))
    bounded.delay(1)
    bounded.apply_async([2], countdown=50)
    bounded.apply_async([3], eta=datetime.now(UTC) + timedelta(seconds=50))
    bounded.apply_async([4], expires=10)
    kept.delay(1)
    assert [ttl and round(ttl, -1) for ttl in ttls] == [None, 90, 90, 100, 150, 150, 70, 10]


def test_a_queue_that_is_purged(app):
    """Nobody can ask a broker for that: the key stays, until its ttl where it has one, or somebody clears it."""
    for_ever = task(app, add, name="for_ever")
    bounded = task(app, add, name="bounded", singleton_queue_ttl=0.5)
    first, lost = for_ever.delay(1), bounded.delay(1)
    assert app.control.purge() == 2
    assert for_ever.delay(1).id == first.id
    eventually(lambda: bounded.delay(1).id != lost.id, within=20)
    assert clear_locks(app) == 2
    assert for_ever.delay(1).id != first.id


# Eager, and called as a function.


def test_eager(app):
    app.conf.task_always_eager = True
    wiring_of(app).client = lambda: pytest.fail("no store is needed")
    tries = []

    def run(self, a):
        tries.append(self.request.id)
        if len(tries) < 2:
            raise self.retry(countdown=0)
        return a

    one = task(app, run, name="one", bind=True)
    assert one.delay(1).get() == 1
    assert len(tries) == 2
    assert tries[0] == tries[1] is not None


def test_called_as_a_function(app):
    one = task(app, add, name="one")
    assert one(1) == 3
    assert one.apply([1]).get() == 3
    assert entry(app, one.key_for(1)) is None


def test_ignore_passes_in_eager_mode(app):
    def run():
        raise Ignore

    assert task(app, run, name="one").apply().state == "IGNORED"
