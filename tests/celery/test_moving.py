"""What people bring who come from celery-singleton; and encoders and scopes."""

from __future__ import annotations

import json
import uuid
from typing import Any

import celery
import pytest
from celerytasks import add, entry, same, task

from locksmith.celery import DuplicateTaskError, Singleton
from locksmith.celery.wiring import wiring_of
from locksmith.errors import ConfigurationError
from locksmith.testing.waiting import eventually

pytestmark = pytest.mark.native_threads


class Person:
    def __init__(self, number: int) -> None:
        self.number = number


class PeopleEncoder(json.JSONEncoder):
    def default(self, o: Any) -> Any:
        return {"person": o.number} if isinstance(o, Person) else super().default(o)


def by_number(arguments: dict[str, Any]) -> Any:
    return {name: getattr(value, "number", value) for name, value in arguments.items()}


def greet(person: Any, text: str = "hello", **more: Any) -> None: ...


# celery-singleton.


@pytest.mark.parametrize("setting", ["lock_expiry", "singleton_lock_expiry"])
def test_lock_expiry_frees_the_key_of_a_call_that_nobody_has_begun(app, setting):
    options = {}
    if setting == "lock_expiry":
        options["lock_expiry"] = 1
    else:
        app.conf.singleton_lock_expiry = 1
    one = task(app, same, name="one", **options)
    first = one.delay(1)
    eventually(lambda: one.delay(1).id != first.id, within=40, what="an equal call is accepted")


def test_the_task_says_more_than_the_application(app):
    app.conf.update(singleton_lock_expiry=500, singleton_raise_on_duplicate=True)
    one = task(app, same, name="one", lock_expiry=7, raise_on_duplicate=False)
    two = task(app, same, name="two")
    assert one._locksmith_plan().options.queue_ttl == 7
    assert one.delay(1).id == one.delay(1).id
    two.delay(1)
    with pytest.raises(DuplicateTaskError):
        two.delay(1)


def test_unique_on_as_there(app):
    text = task(app, add, name="text", unique_on="a")
    assert text.delay(1, 2).id == text.delay(1, 3).id
    nothing = task(app, add, name="nothing", unique_on=[])
    assert nothing.delay(1).id == nothing.delay(2).id


@pytest.mark.parametrize("setting", ["singleton_backend_class", "singleton_backend_kwargs"])
def test_what_is_refused_says_what_to_do(app, setting):
    setattr(app.conf, setting, {"x": 1})
    with pytest.raises(ConfigurationError, match="locksmith_url"):
        task(app, same, name="one").name


def test_singleton_backend_url_is_the_store(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCKSMITH_URL", "nonsense://")
    made = celery.Celery("moved", broker="memory://", set_as_current=False)
    made.conf.singleton_backend_url = f"sqlite:///{tmp_path}/locks.db"
    one = made.task(shared=False, base=Singleton, name="one")(same)
    assert one.delay(1).id == one.delay(1).id
    wiring_of(made)._source.get().close()
    made.conf.locksmith_url = f"sqlite:///{tmp_path}/others.db"
    wiring_of(made)._source = None
    with pytest.raises(ConfigurationError, match="different stores"):
        one.delay(1)


def test_singleton_key_prefix_keeps_applications_apart(app):
    app.conf.singleton_key_prefix = "shop_"
    one = task(app, same, name="one")
    assert one.key_for(1).startswith("shop_one:v1:")
    assert entry(app, one.key_for(1)) is None
    one.delay(1)
    assert entry(app, one.key_for(1)) is not None


def test_singleton_json_encoder_class(app):
    app.conf.singleton_json_encoder_class = f"{__name__}.PeopleEncoder"
    one = task(app, greet, name="one", serializer="pickle")
    assert one.key_for(Person(1)) == one.key_for(person=Person(1), text="hello") != one.key_for(Person(2))
    with pytest.raises(ConfigurationError, match="not JSON serializable"):
        one.key_for(object())


# Encoders.


@pytest.mark.parametrize("encoder", [by_number, f"{__name__}:by_number"])
def test_an_encoder_makes_arguments_comparable(app, encoder):
    one = task(app, greet, name="one", singleton_encoder=encoder)
    assert one.key_for(Person(1)) == one.key_for(person=Person(1), text="hello")
    others = [one.key_for(Person(1)), one.key_for(Person(2)), one.key_for(Person(1), "x"), one.key_for(Person(1), y=1)]
    assert len(set(others)) == 4
    some = task(app, greet, name="some", singleton_encoder=encoder, unique_on=["person", "y"])
    assert some.key_for(Person(1), "x", y=1) == some.key_for(Person(1), y=1, z=2) != some.key_for(Person(1))
    with pytest.raises(ConfigurationError, match="singleton_encoder"):
        one.key_for(object())
    with pytest.raises(TypeError):
        one.key_for()


def test_an_encoder_for_the_application(app):
    app.conf.singleton_encoder = by_number
    one = task(app, greet, name="one")
    templated = task(app, greet, name="two", singleton_key="{text}")
    assert one.key_for(Person(1)) == one.key_for(Person(1))
    assert templated.key_for(Person(1)) == "hello"


def test_an_encoder_may_be_a_method_of_the_task(app):
    class Mine(Singleton):
        name = uuid.uuid4().hex

        @staticmethod
        def singleton_encoder(arguments: dict[str, Any]) -> Any:
            return by_number(arguments)

        def run(self, person: Any) -> None: ...

    made = app.register_task(Mine())
    assert made.key_for(Person(1)) == made.key_for(Person(1)) != made.key_for(Person(2))
