"""What a worker's parent process does with a message that arrives: its slot, its eta, and what is left alone."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.worker.state import revoked

import locksmith
from locksmith.celery import RateLimited, install
from locksmith.celery.slots import HEADER
from locksmith.celery.strategy import Desk, _moment
from locksmith.store import StoreUnavailable

pytestmark = pytest.mark.native_threads


@pytest.fixture
def desk():
    app = Celery(uuid.uuid4().hex, broker="memory://", backend="disabled://", set_as_current=False)
    with locksmith.connect("memory://", namespace=app.main) as client:
        install(app, client=client)

        @app.task(base=RateLimited, limit="1/m", limit_key="{user}", name="task", shared=False)
        def task(user): ...

        limits = task._locksmith_limits()
        made = Desk(limits, limits.rates)
        made.client = client
        yield made
    app.close()


def message(user="ann", redelivered=False, **headers):
    return SimpleNamespace(
        headers={"id": uuid.uuid4().hex, "retries": 0, **headers},
        payload=([user], {}, {}),
        delivery_info={"redelivered": redelivered},
    )


def given(desk, one):
    """The eta, in seconds from now, and the slot."""
    desk.give(one)
    eta = _moment(one.headers.get("eta"))
    return eta and (eta - datetime.now(UTC)).total_seconds(), one.headers.get(HEADER, {}).get("at")


def left(desk, user="ann"):
    """How far ahead the next slot is."""
    return desk.client.rate_limit("task", "1/m").reserve(key=user).delay


def test_the_first_runs_now_and_the_next_waits(desk):
    eta, slot = given(desk, message())
    assert (eta, slot > 0) == (None, True)
    eta, later = given(desk, message())
    assert eta == pytest.approx(60, abs=5)
    assert later - slot == pytest.approx(60_000_000, abs=1)
    assert given(desk, message("bob"))[0] is None


def test_far_ahead_it_comes_to_be_published_again(desk):
    for _ in range(7):
        given(desk, message())
    assert given(desk, message())[0] == pytest.approx(300, abs=5)


def test_what_has_its_slot_takes_no_other(desk):
    given(desk, message())
    one = message()
    _, slot = given(desk, one)
    assert given(desk, one)[1] == slot
    again = message(redelivered=True, id=one.headers["id"])
    assert given(desk, again) == (None, slot), "the process that runs it looks at the time"
    assert left(desk) == pytest.approx(120, abs=5)


def test_a_retry_takes_a_slot_of_its_own(desk):
    one = message()
    _, slot = given(desk, one)
    again = message(**{**one.headers, "retries": 1})
    assert given(desk, again)[1] - slot == pytest.approx(60_000_000, abs=1)
    assert again.headers[HEADER]["of"] == [one.headers["id"], 1]


def test_what_does_not_begin_when_it_arrives_books_nothing(desk):
    now = datetime.now(UTC)
    late = message(eta=(now + timedelta(seconds=90)).isoformat())
    assert given(desk, late)[1] is None
    assert given(desk, message(expires=(now - timedelta(seconds=1)).isoformat()))[1] is None
    one = message()
    revoked.add(one.headers["id"])
    assert given(desk, one)[1] is None
    assert given(desk, message(locksmith={"key": "k", "after": "another"}))[1] is None
    desk.give(SimpleNamespace(headers=None))  # the protocol of old
    assert left(desk) == 0
    assert given(desk, message(eta=(now - timedelta(seconds=9)).isoformat(), expires=None))[1]


def test_what_cannot_be_judged_here_is_left_to_the_process_that_runs_it(desk, monkeypatch):
    odd = message()
    odd.payload = ([], {"nobody": 1}, {})  # arguments that do not fit
    assert given(desk, odd) == (None, None)
    asked = []

    async def away(*_, **__):
        asked.append(1)
        raise StoreUnavailable("away")

    monkeypatch.setattr(desk.client._engine.store, "pace", away)
    assert [given(desk, message()), given(desk, message())] == [(None, None)] * 2
    assert len(asked) == 1, "nobody asks again at once"
