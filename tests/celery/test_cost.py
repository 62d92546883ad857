"""What publishing costs: requests, and what is not done at all for a duplicate."""

from __future__ import annotations

from typing import Any

import celery
import pytest
from celerytasks import add, same, task

from locksmith.celery import Singleton
from locksmith.celery.folds import Folds
from locksmith.celery.wiring import Wiring, wiring_of

pytestmark = pytest.mark.native_threads


@pytest.fixture
def requests(app, monkeypatch):
    """The names of the store's methods that were called."""
    monkeypatch.setattr(Folds, "_arm", lambda self: None)  # that one asks by the clock, beside
    store = wiring_of(app).ledger()._engine.store
    asked: list[str] = []

    def watch(name: str) -> None:
        method = getattr(store, name)

        async def watched(*args: Any, **options: Any) -> Any:
            asked.append(name)
            return await method(*args, **options)

        monkeypatch.setattr(store, name, watched)

    for name in ("get", "put", "delete"):
        watch(name)
    return asked


def test_one_request_for_a_duplicate_and_two_for_any_other(app, requests):
    one = task(app, add, name="one")
    one.delay(1)
    assert requests == ["get", "put"]
    requests.clear()
    for _ in range(3):
        one.delay(1)
    one.apply_async([1], countdown=5, queue="elsewhere")
    assert requests == ["get"] * 4


def test_a_duplicate_prepares_no_message(app, monkeypatch):
    one = task(app, add, name="one")
    first = one.delay(1)
    monkeypatch.setattr(celery.Task, "apply_async", lambda *args, **options: pytest.fail("Celery was asked"))
    assert one.delay(1).id == one.delay(b=2, a=1).id == first.id


def test_the_result_of_a_duplicate_is_of_the_tasks_own_kind(app):
    class Result(celery.result.AsyncResult):
        pass

    class Mine(Singleton):
        def AsyncResult(self, task_id: str, **options: Any) -> Result:  # noqa: N802 - Celery's name
            return Result(task_id, backend=self.backend, app=self.app)

    one = app.task(shared=False, base=Mine, name="one")(same)
    first = one.delay(1)
    assert isinstance(first, Result)
    again = one.delay(1)
    assert isinstance(again, Result)
    assert again == first


def test_nobody_waits_for_a_result_that_is_not_stored(app):
    one = task(app, add, name="one", ignore_result=True)
    first, again = one.delay(1), one.delay(1)
    assert again.id == first.id
    assert again.get(timeout=1) is first.get(timeout=1) is None
    two = task(app, add, name="two")
    two.delay(1)
    assert two.apply_async([1], ignore_result=True).get(timeout=1) is None


@pytest.mark.parametrize(
    "said", [{}, {"task_always_eager": True}, {"CELERY_ALWAYS_EAGER": True}, {"task_always_eager": False}]
)
def test_eager_mode_is_seen_however_it_is_said(said):
    for namespace in (None, "CELERY", "SHOP"):
        made = celery.Celery("said", broker="memory://", set_as_current=False)
        names = {f"{namespace}_{name.upper()}" if namespace else name: value for name, value in said.items()}
        made.config_from_object(type("settings", (), names), namespace=namespace)
        wiring = Wiring(made, None)
        assert [wiring.is_eager(), wiring.is_eager()] == [bool(made.conf.task_always_eager)] * 2
        made.conf.task_always_eager = True
        assert wiring.is_eager()
        made.conf.task_always_eager = False
        assert not wiring.is_eager()
