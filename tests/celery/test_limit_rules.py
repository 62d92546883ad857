"""What becomes of one message of a limited task, step by step: without a worker, and with its publishing noted."""

from __future__ import annotations

import time
import uuid

import pytest
from celery import Celery
from celery.app.task import Context
from celery.exceptions import Ignore

import locksmith
from locksmith.celery import RateLimited, RateLimitedSingleton, Singleton, install
from locksmith.celery.limit_step import check
from locksmith.celery.limiting import limited
from locksmith.celery.limits import HOLD, hold_of
from locksmith.celery.slots import HEADER
from locksmith.celery.wiring import wiring_of
from locksmith.pacing import Slot
from locksmith.store import StoreUnavailable

pytestmark = pytest.mark.native_threads


class Bench:
    """An application whose messages are noted instead of sent, and a task that is given to it."""

    def __init__(self, client):
        self.client = client
        self.app = Celery(uuid.uuid4().hex, broker="memory://", backend="disabled://", set_as_current=False)
        install(self.app, client=client)
        self.sent = []
        wiring_of(self.app).publish = lambda name, args, kwargs, **options: self.sent.append(options)
        self.ran = []

    def task(self, **options):
        @self.app.task(shared=False, name="task", bind=True, **{"base": RateLimited, **options})
        def task(self_, user="ann"):
            self.ran.append(user)
            return user

        self.limits = task._locksmith_limits()
        return task

    def deliver(self, *args, headers=None, retries=0, task_id="id"):
        """A worker gets a message. True where it runs, else the options of the message it comes back as."""
        request = Context({"id": task_id, "retries": retries, "args": args, "kwargs": {}, "delivery_info": {},
                           **(headers or {})})  # fmt: skip
        count = len(self.ran)
        try:
            limited(self.limits, request, self.ran.append)(*args)
        except Ignore:
            assert len(self.ran) == count
            return self.sent.pop()
        assert not self.sent
        return len(self.ran) == count + 1

    def next_slot(self, *rates, key=None):
        return self.client.rate_limit("task", *rates).reserve(key=key)


@pytest.fixture
def bench():
    with locksmith.connect("memory://", namespace=uuid.uuid4().hex) as client:
        made = Bench(client)
        yield made
        made.app.close()


def test_over_the_limit_it_comes_back_at_its_slot_with_all_that_it_had(bench):
    bench.task(limit="1/m")
    assert bench.deliver("ann") is True
    told = bench.deliver("ann", headers={"mine": 7}, retries=2)
    assert 50 < told["countdown"] <= 60
    assert (told["retries"], told["task_id"], told["headers"]["mine"]) == (2, "id", 7)
    assert told["headers"][HEADER]["at"] / 1e6 == pytest.approx(bench.next_slot("1/m").at / 1e6 - 60, abs=0.001)


def test_a_slot_is_paid_for_once(bench):
    """By the first delivery: not when it comes back, nor when it is delivered again."""
    bench.task(limit="1/m")
    bench.deliver("ann")
    headers = bench.deliver("ann")["headers"]
    second = headers[HEADER]["at"]
    headers[HEADER]["at"] -= 60_000_000  # as if that time had come
    assert bench.deliver("ann", headers=headers) is True
    assert bench.deliver("ann", headers=headers) is True
    assert bench.next_slot("1/m").at - second == pytest.approx(60_000_000, abs=1)


def test_too_early_it_keeps_its_slot(bench):
    """The clock of another worker is ahead, or it was published again before its time."""
    bench.task(limit="1/m")
    bench.deliver("ann")
    first = bench.deliver("ann")
    second = bench.deliver("ann", headers=first["headers"])
    assert second["headers"][HEADER] == first["headers"][HEADER]
    assert second["countdown"] <= first["countdown"]


def test_far_ahead_it_is_published_again_in_good_time(bench):
    bench.app.conf.broker_transport_options = {"visibility_timeout": 30}
    bench.task(limit="1/h")
    bench.deliver("ann")
    assert bench.deliver("ann")["countdown"] == 10


def test_how_long_a_worker_holds_a_message():
    assert hold_of({}) == hold_of({"broker_transport_options": {"visibility_timeout": 43_200}}) == HOLD
    assert hold_of({"broker_transport_options": {"visibility_timeout": 60}}) == 20


def test_much_too_late_it_gets_another_slot(bench):
    """What an outage left behind does not begin all at once when the workers are back."""
    bench.task(limit="1/m")
    bench.deliver("ann")
    headers = bench.deliver("ann")["headers"]
    headers[HEADER]["at"] -= 180 * 10**6  # as if it came two minutes late
    told = bench.deliver("ann", headers=headers)
    assert told["countdown"] > 60
    assert told["headers"][HEADER]["missed"] == 1
    told["headers"][HEADER]["at"] -= int((told["countdown"] + 25) * 1e6)  # by 25 seconds: that is allowed now
    assert bench.deliver("ann", headers=told["headers"]) is True


def test_a_retry_takes_a_slot_of_its_own(bench):
    bench.task(limit="1/m")
    bench.deliver("ann")
    headers = bench.deliver("ann")["headers"]
    told = bench.deliver("ann", headers=headers, retries=1)
    assert told["headers"][HEADER]["at"] - headers[HEADER]["at"] == pytest.approx(60_000_000, abs=1)
    assert told["headers"][HEADER]["of"] == ["id", 1]


def test_each_key_has_its_own_limit_and_a_call_may_cost_more(bench):
    bench.task(limit="10/m", limit_burst=4, limit_key="{user}", limit_cost=5)
    assert bench.deliver("ann") is True
    assert bench.deliver("bob") is True
    assert bench.deliver("ann")["countdown"] == pytest.approx(30, abs=5)
    assert bench.next_slot("10/m", key="ann").delay > 30


def test_a_permit_that_is_taken_costs_no_slot_and_pauses_grow(bench):
    bench.task(limit="1/m", limit_concurrency=1, limit_key="{user}")
    with bench.client.semaphore("task:ann", limit=1).acquire():
        first = bench.deliver("ann")
        assert 0.1 <= first["countdown"] <= 0.2
        later = bench.deliver("ann", headers={HEADER: {**first["headers"][HEADER], "tries": 9}})
        assert 2.5 <= later["countdown"] <= 5
        assert bench.deliver("bob") is True
    assert bench.deliver("ann", headers=first["headers"]) is True


def test_who_waits_for_a_slot_keeps_no_permit(bench):
    bench.task(limit="1/m", limit_concurrency=1)
    assert bench.deliver("ann") is True
    assert bench.deliver("ann")["countdown"] > 50
    assert bench.client.inspect("task").holders == []


def test_a_permit_of_all_keys_together(bench):
    bench.task(limit="9/s", limit_key="{user}", limit_concurrency=1, limit_concurrency_key=None)
    with bench.client.semaphore("task", limit=1).acquire():
        assert bench.deliver("ann")["countdown"] < 1


def test_another_limit_is_rolled_out(bench):
    bench.task(limit_concurrency=2)
    with bench.client.semaphore("task", limit=3).acquire():
        assert bench.deliver("ann")["countdown"] < 1
    assert bench.deliver("ann") is True


def test_a_body_that_raises_gives_its_permit_back(bench):
    bench.task(limit_concurrency=1)
    request = Context({"id": "id", "retries": 0})

    def fail(*_):
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        limited(bench.limits, request, fail)("ann")
    assert bench.client.inspect("task").holders == []


@pytest.mark.parametrize("where", ["task", "conf"])
def test_the_store_cannot_be_asked(bench, where, monkeypatch, caplog):
    async def away(*_, **__):
        raise StoreUnavailable("away")

    if where == "task":
        bench.task(limit="1/m")
        monkeypatch.setattr(bench.client._engine.store, "pace", away)
        assert bench.deliver("ann")["countdown"] < 1
        assert "is put off: away" in caplog.text
    else:
        bench.app.conf.limit_on_store_error = "run"
        bench.task(limit="1/m")
        monkeypatch.setattr(bench.client._engine.store, "pace", away)
        assert bench.deliver("ann") is True
        assert "runs without its limits: away" in caplog.text


def test_beyond_the_horizon_nothing_is_taken(bench, monkeypatch):
    async def far(*_, **__):
        return Slot(False, 31 * 86_400.0, round((time.time() + 31 * 86_400) * 1e6))

    bench.task(limit="1/d")
    monkeypatch.setattr(bench.client._engine.store, "pace", far)
    told = bench.deliver("ann")
    assert (told["countdown"], told["headers"][HEADER]["at"]) == (HOLD, 0)


def test_arguments_that_do_not_fit_fail_as_they_would(bench):
    task = bench.task(limit="1/m", limit_key="{user}")
    with pytest.raises(TypeError, match="nobody"):
        limited(bench.limits, Context({"id": "id", "retries": 0}), task.run)(nobody=1)


def test_a_key_that_does_not_work_lets_nothing_pass(bench):
    task = bench.task(limit="1/m", limit_key=lambda user: f"{len(user)}")
    with pytest.raises(TypeError, match="has no len"):
        limited(bench.limits, Context({"id": "id", "retries": 0}), task.run)(7)
    assert bench.ran == []


def test_called_as_a_function_or_eagerly_there_are_no_limits():
    app = Celery(uuid.uuid4().hex, broker="memory://", backend="disabled://", set_as_current=False)

    @app.task(base=RateLimitedSingleton, limit="1/d", shared=False)
    def double(number):
        return 2 * number

    assert [double(2), double(3), double.apply([4]).get(), double.apply([5]).get()] == [4, 6, 8, 10]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "has no limit"),
        ({"limit": "70"}, "a rate is a whole number"),
        ({"limit": ("1/s", "2/s")}, "same period"),
        ({"limit": "1/s", "limit_key": "{nobody}"}, "nobody"),
        ({"limit": "1/s", "limit_cost": 2}, "the cost|limit_cost"),
        ({"limit_concurrency": 0}, "limit_concurrency is a whole number"),
        ({"limit": "1/s", "limit_on_store_error": "cry"}, "limit_on_store_error"),
        ({"limit": "1/s", "limit_ttl": -1}, "limit_ttl"),
        ({"limit": "1/s", "limit_name": ""}, "name"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_the_task_is_registered(bench, options, why):
    with pytest.raises(locksmith.ConfigurationError, match=why):
        bench.task(**options)


def test_a_worker_over_a_store_without_a_clock_does_not_start():
    app = Celery(uuid.uuid4().hex, broker="memory://", set_as_current=False)
    app.conf.locksmith_url = "etcd://localhost:1"

    @app.task(base=RateLimited, limit_concurrency=2, shared=False)
    def few(): ...

    check(few)

    @app.task(base=RateLimited, limit="1/s", shared=False)
    def paced(): ...

    with pytest.raises(locksmith.GuaranteeMissing, match=r"does not promise CLOCK.*such as .*redis://"):
        check(paced)
    wiring_of(app).current_client().close()


@pytest.mark.parametrize("bases", [(Singleton, RateLimited), (RateLimited, Singleton)])
def test_either_order_of_bases_has_the_request_of_singleton(bench, bases):
    task = bench.task(base=type("Both", bases, {"abstract": True}), limit="1/s")
    assert task.Request == "locksmith.celery.request:SingletonRequest"
