"""run_once and its lease: who sees it, how it ends, what happens where the store does not answer."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

import locksmith
from locksmith import SKIPPED, AlreadyRunning, LeaseLost, StoreUnavailable, current_lease, run_once
from locksmith.testing.clock import VirtualClock


def test_the_function_knows_its_lease(store: str) -> None:
    tokens = []

    @run_once("outer", store=store)
    def outer() -> None:
        lease = current_lease()
        assert lease is not None
        assert lease.name == "outer"
        assert lease.held
        tokens.append(lease.token)
        inner()
        assert current_lease() is not None
        assert current_lease().name == "outer"  # type: ignore[union-attr]
        thread = threading.Thread(target=lambda: tokens.append(current_lease() is None))
        thread.start()
        thread.join()

    @run_once("inner", store=store)
    def inner() -> None:
        assert current_lease().name == "inner"  # type: ignore[union-attr]

    assert current_lease() is None
    outer()
    outer()
    assert current_lease() is None
    assert tokens[1] is True
    assert tokens[2] > tokens[0]


def test_the_lease_is_renewed_while_the_function_runs(client: locksmith.Client, clock: VirtualClock) -> None:
    """P8's other side: ttl is crash detection, not the length of the job."""

    @run_once("k", client=client, ttl=30)
    def fn() -> str:
        clock.advance(3600)
        assert fn() is SKIPPED
        current_lease().check()  # type: ignore[union-attr]
        return "done"

    assert fn() == "done"


def test_a_lost_lease_is_an_error_that_has_the_result(client: locksmith.Client) -> None:
    @run_once("k", client=client)
    def fn() -> str:
        assert client.evict("k", current_lease().token)  # type: ignore[union-attr]
        return "result"

    with pytest.raises(LeaseLost) as caught:
        fn()
    assert caught.value.result == "result"


def test_a_lost_lease_does_not_hide_the_functions_own_exception(client: locksmith.Client) -> None:
    @run_once("k", client=client)
    def fn() -> None:
        assert client.evict("k", current_lease().token)  # type: ignore[union-attr]
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        fn()
    assert caught.value.__cause__ is None


def test_max_hold_ends_the_lease_of_a_function_that_hangs(client: locksmith.Client, clock: VirtualClock) -> None:
    @run_once("k", client=client, max_hold=60)
    def fn(seconds: float) -> object:
        clock.advance(seconds)
        return fn(0) if seconds else "inner"

    assert fn(59) is SKIPPED
    with pytest.raises(LeaseLost) as caught:
        fn(61)
    assert caught.value.result == "inner"


@pytest.mark.parametrize("fail", [False, True])
def test_at_least_keeps_the_name_taken(client: locksmith.Client, clock: VirtualClock, fail: bool) -> None:
    @run_once("k", client=client, at_least=60, ttl=10)
    def fn() -> str:
        clock.advance(20)
        if fail:
            raise ValueError
        return "ran"

    def call() -> object:
        try:
            return fn()
        except ValueError:
            return "ran"

    assert call() == "ran"
    clock.advance(39)
    assert call() is SKIPPED
    clock.advance(1.5)
    assert call() == "ran"


def test_at_least_does_not_outlast_a_long_run(client: locksmith.Client, clock: VirtualClock) -> None:
    @run_once("k", client=client, at_least=60)
    def fn() -> str:
        clock.advance(61)
        return "ran"

    assert fn() == fn() == "ran"


def test_people_see_which_function_holds(store: str) -> None:
    @run_once("k", store=store)
    def fn() -> str:
        with locksmith.connect(store) as client:
            return client.inspect("k").holders[0].info

    assert "test_people_see_which_function_holds.<locals>.fn" in str(fn())


# Stores that fail


class Broken:
    """Makes one method of a client's store raise, as a dead server would."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = client._engine.store
        self.patch = monkeypatch

    def __call__(self, method: str, times: int | None = None) -> None:
        real = getattr(self.store, method)
        left = [times]

        async def fail(*args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                return await real(*args, **kwargs)
            if left[0] is not None:
                left[0] -= 1
            raise StoreUnavailable(f"{method}: no server")

        self.patch.setattr(self.store, method, fail)


@pytest.fixture
def broken(client: locksmith.Client, monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(client, monkeypatch)


@pytest.mark.parametrize(("method", "once_per"), [("acquire", None), ("get", 60.0)])
def test_without_an_answer_nothing_is_run(client: locksmith.Client, broken: Broken, method: str, once_per: Any) -> None:
    @run_once("k", client=client, once_per=once_per)
    def fn() -> None:
        raise AssertionError("must not run")

    broken(method)
    with pytest.raises(StoreUnavailable):
        fn()


def test_a_second_look_that_fails_gives_the_name_back(
    client: locksmith.Client, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    @run_once("k", client=client, once_per=60)
    def fn() -> None:
        raise AssertionError("must not run")

    real = broken.store.get
    looks = []

    async def get(key: str) -> Any:
        looks.append(key)
        if len(looks) == 2:
            raise StoreUnavailable("no server")
        return await real(key)

    monkeypatch.setattr(broken.store, "get", get)
    with pytest.raises(StoreUnavailable):
        fn()
    assert not client.inspect("k").holders


def test_a_value_is_kept_where_giving_back_fails(
    client: locksmith.Client, broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    @run_once("k", client=client)
    def fn() -> str:
        broken("release")
        return "value"

    assert fn() == "value"
    (record,) = [r for r in caplog.records if r.name == "locksmith.run_once"]
    assert record.levelno == logging.WARNING
    assert "giving back its name failed" in record.getMessage()


def test_an_exception_is_kept_where_giving_back_fails(client: locksmith.Client, broken: Broken) -> None:
    @run_once("k", client=client)
    def fn() -> None:
        broken("release")
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fn()


def test_who_holds_is_told_only_if_the_store_says(
    client: locksmith.Client, broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    @run_once("k", client=client, on_conflict="raise")
    def fn() -> None:
        broken("inspect")
        fn()

    with pytest.raises(AlreadyRunning) as caught:
        fn()
    assert (caught.value.holder, caught.value.since) == (None, None)
