"""on_conflict="join": one run, and its result for all who came meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import locksmith
from locksmith import AcquireTimeout, ResultNotRecorded, run_once
from locksmith.store import MAX_CELL_BYTES
from locksmith.testing.waiting import eventually


class Flight:
    """A joined function whose runs a test directs one by one: each does what `plan` says for it."""

    def __init__(self, store: str, plan: list[Callable[[], Any]], **settings: Any) -> None:
        self.client = locksmith.connect(store)
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.plan = plan
        self.runs = 0
        self.call = run_once("k", on_conflict="join", client=self.client, **settings)(self.body)
        self.pool = ThreadPoolExecutor(8)

    def body(self) -> Any:
        step = self.plan[self.runs]
        self.runs += 1
        self.started.set()
        assert self.go_on.wait(10)
        return step()

    def take_off(self, passengers: int) -> list[Future[Any]]:
        """One call runs, and `passengers` others have joined it; let all go on."""
        calls = [self.pool.submit(self.call)]
        assert self.started.wait(10)
        calls += [self.pool.submit(self.call) for _ in range(passengers)]
        eventually(lambda: len(self.client.inspect("k").waiters) == passengers)
        self.go_on.set()
        return calls

    def land(self) -> None:
        self.go_on.set()
        # First: whoever still waits, in a test that failed, is told and does not keep the process from ending.
        self.client.close()
        self.pool.shutdown()


@pytest.fixture
def fly(store: str) -> Any:
    flights: list[Flight] = []

    def fly(*plan: Callable[[], Any], **settings: Any) -> Flight:
        flights.append(Flight(store, list(plan), **settings))
        return flights[-1]

    yield fly
    for flight in flights:
        flight.land()


def fail() -> Any:
    raise ValueError("mine")


def test_all_get_the_result_of_the_one_that_runs(fly: Any) -> None:
    flight = fly(lambda: {"rows": [1, 2]})
    assert [call.result(10) for call in flight.take_off(5)] == [{"rows": [1, 2]}] * 6
    assert flight.runs == 1


def test_who_comes_later_runs_again(fly: Any) -> None:
    flight = fly(lambda: 1, lambda: 2)
    flight.go_on.set()
    assert [flight.call(), flight.call()] == [1, 2]


@pytest.mark.parametrize("result", [None, False, 0, "", [], {"a": None}, 1.5])
def test_results_that_are_false_are_results(fly: Any, result: object) -> None:
    flight = fly(lambda: result)
    first, second = (call.result(10) for call in flight.take_off(1))
    assert first == second == result
    assert type(second) is type(result)


def test_where_the_run_raised_the_next_in_line_runs(fly: Any) -> None:
    flight = fly(fail, lambda: 2)
    first, *others = flight.take_off(3)
    with pytest.raises(ValueError, match="mine"):
        first.result(10)
    assert [call.result(10) for call in others] == [2, 2, 2]
    assert flight.runs == 2


@pytest.mark.parametrize(
    ("result", "why"),
    [(object(), "JSON has no object"), ({1: 2}, "the key 1"), ("x" * MAX_CELL_BYTES, "bytes"), ([{"a": {1}}], "set")],
)
def test_a_result_that_cannot_be_passed_on(
    fly: Any, caplog: pytest.LogCaptureFixture, result: object, why: str
) -> None:
    flight = fly(lambda: result)
    first, second = flight.take_off(1)
    assert first.result(10) is result
    with pytest.raises(ResultNotRecorded, match=why):
        second.result(10)
    (record,) = [r for r in caplog.records if r.name == "locksmith.run_once"]
    assert record.levelno == logging.WARNING
    assert why in record.getMessage()
    assert flight.runs == 1


def test_tuples_arrive_as_lists(fly: Any) -> None:
    first, second = fly(lambda: (1, 2)).take_off(1)
    assert (first.result(10), second.result(10)) == ((1, 2), [1, 2])


def test_joining_for_a_while(fly: Any) -> None:
    flight = fly(lambda: 1, wait=0.05)
    running = flight.pool.submit(flight.call)
    assert flight.started.wait(10)
    with pytest.raises(AcquireTimeout):
        flight.call()
    flight.go_on.set()
    assert running.result(10) == 1


def test_in_a_window_later_calls_get_the_recorded_result(fly: Any) -> None:
    flight = fly(lambda: {"n": 1}, once_per=60)
    flight.go_on.set()
    assert [flight.call() for _ in range(3)] == [{"n": 1}] * 3


def test_a_run_longer_than_its_window_is_joined_all_the_same(fly: Any) -> None:
    def longer_than_the_window() -> int:
        time.sleep(0.002)
        return 1

    flight = fly(longer_than_the_window, lambda: 2, once_per=0.001)
    assert [call.result(10) for call in flight.take_off(2)] == [1, 1, 1]
    assert flight.call() == 2


def test_only_functions_with_one_result_can_be_joined() -> None:
    with pytest.raises(locksmith.ConfigurationError, match="generator"):

        @run_once("k", on_conflict="join")
        def fn() -> Any:
            yield 1
