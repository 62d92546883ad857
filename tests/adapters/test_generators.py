"""run_once on generator functions: the name is held from the first next() to the end."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Generator, Iterator
from typing import Any

import pytest

import locksmith
from locksmith import SKIPPED, ConfigurationError, LeaseLost, current_lease, run_once
from locksmith.testing.clock import VirtualClock


@pytest.fixture
def held(client: locksmith.Client) -> Any:
    return lambda: bool(client.inspect("k").holders)


def test_it_is_still_a_generator_function(client: locksmith.Client) -> None:
    @run_once("k:{n}", client=client)
    def fn(n: int) -> Iterator[int]:
        yield from range(n)

    assert inspect.isgeneratorfunction(fn)
    assert list(fn(3)) == [0, 1, 2]
    assert inspect.isgenerator(fn(1))


def test_held_from_the_first_next_to_the_end(client: locksmith.Client, held: Any) -> None:
    @run_once("k", client=client)
    def fn() -> Iterator[int]:
        yield 1
        yield 2

    steps = fn()
    assert not held()
    assert next(steps) == 1
    assert held()
    assert next(steps) == 2
    assert held()
    with pytest.raises(StopIteration):
        next(steps)
    assert not held()


def test_a_skipped_generator_yields_nothing(client: locksmith.Client) -> None:
    @run_once("k", client=client)
    def fn() -> Iterator[int]:
        yield 1

    steps = fn()
    next(steps)
    assert list(fn()) == []
    with pytest.raises(StopIteration) as end:
        next(fn())
    assert end.value.value is SKIPPED


def test_a_skipped_generator_yields_its_default(client: locksmith.Client) -> None:
    @run_once("k", client=client, default=[7, 8])
    def fn() -> Iterator[int]:
        yield 1

    steps = fn()
    next(steps)
    assert list(fn()) == [7, 8]


def test_a_default_must_be_iterable() -> None:
    with pytest.raises(ConfigurationError, match="iterable"):

        @run_once("k", default=5)
        def fn() -> Iterator[int]:
            yield 1


def test_send_throw_and_return_pass_through(client: locksmith.Client, held: Any) -> None:
    @run_once("k", client=client)
    def fn() -> Generator[object, object, str]:
        got = yield "first"
        try:
            yield got
        except KeyError as error:
            yield error
        return "result"

    steps = fn()
    assert next(steps) == "first"
    assert steps.send("sent") == "sent"
    error = KeyError("thrown")
    assert steps.throw(error) is error
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "result"
    assert not held()


@pytest.mark.parametrize("leave", ["close", "del", "cycle", "throw", "raise"])
def test_every_way_out_gives_the_name_back(client: locksmith.Client, held: Any, leave: str) -> None:
    cleaned = []

    @run_once("k", client=client, once_per=60)
    def fn() -> Iterator[int]:
        try:
            yield 1
            raise ValueError("mine")
        finally:
            # The collector finalises the parts of a cycle in any order (PEP 442), and so may close this generator by
            # itself, with none of ours around it; Python 3.13 does.
            assert leave == "cycle" or current_lease() is not None
            cleaned.append(leave)

    steps: Any = fn()
    next(steps)
    assert held()
    if leave == "close":
        steps.close()
    elif leave == "del":
        del steps
    elif leave == "cycle":
        box: list[Any] = [steps]
        box.append(box)
        del steps, box
        gc.collect()
    elif leave == "throw":
        with pytest.raises(KeyError):
            steps.throw(KeyError())
    else:
        with pytest.raises(ValueError, match="mine"):
            next(steps)
    assert cleaned == [leave]
    assert not held()
    assert next(fn()) == 1, "what did not complete may run again"


def test_a_window_counts_generators_that_were_exhausted(client: locksmith.Client) -> None:
    @run_once("k", client=client, once_per=60)
    def fn() -> Iterator[int]:
        yield 1

    assert [list(fn()), list(fn())] == [[1], []]


def test_the_lease_belongs_to_the_generator_and_not_to_its_consumer(client: locksmith.Client) -> None:
    @run_once("k:{n}", client=client)
    def fn(n: int) -> Iterator[str]:
        for _ in range(2):
            yield current_lease().name  # type: ignore[union-attr]

    one, two = fn(1), fn(2)
    seen = []
    for pair in zip(one, two, strict=True):
        seen.append(pair)
        assert current_lease() is None
    assert seen == [("k:1", "k:2")] * 2


def test_after_a_loss_there_is_no_next_step(client: locksmith.Client, clock: VirtualClock) -> None:
    reached = []

    @run_once("k", client=client, max_hold=60)
    def fn() -> Iterator[int]:
        try:
            yield 1
            reached.append("second")
        finally:
            reached.append("cleaned up")

    steps = fn()
    next(steps)
    clock.advance(61)
    with pytest.raises(LeaseLost):
        next(steps)
    assert reached == ["cleaned up"]


def test_a_loss_in_the_last_step_has_the_result(client: locksmith.Client) -> None:
    @run_once("k", client=client)
    def fn() -> Generator[int, None, str]:
        yield 1
        client.evict("k", current_lease().token)  # type: ignore[union-attr]
        return "result"

    with pytest.raises(LeaseLost) as caught:
        list(fn())
    assert caught.value.result == "result"
