"""once_per: no two in the same period (P11: at most one start per key and window that completed)."""

from __future__ import annotations

import logging
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

import locksmith
from locksmith import SKIPPED, AlreadyRunning, ConfigurationError, GuaranteeMissing, LeaseLost, run_once
from locksmith.memory import MemoryStore
from locksmith.runtime import drive
from locksmith.store import Guarantee
from locksmith.testing.clock import VirtualClock


def test_later_calls_in_the_window_are_skipped(client: locksmith.Client, clock: VirtualClock) -> None:
    @run_once("k", client=client, once_per=3600)
    def fn() -> str:
        return "ran"

    assert fn() == "ran"
    assert fn() is SKIPPED
    clock.advance(3599)
    assert fn() is SKIPPED
    clock.advance(2)
    assert fn() == "ran"


def test_the_window_counts_from_the_start(client: locksmith.Client, clock: VirtualClock) -> None:
    @run_once("k", client=client, once_per=3600)
    def fn(seconds: float) -> str:
        clock.advance(seconds)
        return "ran"

    assert fn(3000) == "ran"
    clock.advance(599)
    assert fn(0) is SKIPPED
    clock.advance(2)
    assert fn(0) == "ran"


def test_a_run_longer_than_the_window_leaves_none(client: locksmith.Client, clock: VirtualClock) -> None:
    @run_once("k", client=client, once_per=60)
    def fn() -> str:
        clock.advance(61)
        return "ran"

    assert fn() == fn() == "ran"


def test_a_window_is_of_one_key(client: locksmith.Client) -> None:
    @run_once("k:{n}", client=client, once_per=60)
    def fn(n: int) -> int:
        return n

    assert [fn(1), fn(2), fn(1)] == [1, 2, SKIPPED]


def test_a_run_that_raises_leaves_no_record(client: locksmith.Client) -> None:
    runs = []

    @run_once("k", client=client, once_per=60)
    def fn() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError
        return "ran"

    with pytest.raises(ValueError):  # noqa: PT011
        fn()
    assert [fn(), fn()] == ["ran", SKIPPED]


def test_what_a_call_in_the_window_gets(client: locksmith.Client) -> None:
    def body() -> dict[str, int]:
        runs.append(1)
        return {"runs": len(runs)}

    runs: list[int] = []
    settings: dict[str, Any] = {"client": client, "once_per": 60}
    assert run_once("skip", **settings)(body)() == {"runs": 1}
    assert run_once("skip", **settings)(body)() is SKIPPED
    assert run_once("default", default=0, **settings)(body)() == {"runs": 2}
    assert run_once("default", default=0, **settings)(body)() == 0
    assert run_once("wait", on_conflict="wait", **settings)(body)() == {"runs": 3}
    assert run_once("wait", on_conflict="wait", **settings)(body)() is SKIPPED
    assert run_once("wait", on_conflict="wait", default=0, **settings)(body)() == 0
    assert run_once("join", on_conflict="join", **settings)(body)() == {"runs": 4}
    assert run_once("join", on_conflict="join", **settings)(body)() == {"runs": 4}
    assert run_once("raise", on_conflict="raise", **settings)(body)() == {"runs": 5}
    with pytest.raises(AlreadyRunning, match="has run already in this period") as caught:
        run_once("raise", on_conflict="raise", **settings)(body)()
    assert caught.value.holder is not None
    assert caught.value.since is not None
    assert len(runs) == 5


def test_a_call_that_is_skipped_in_the_window_says_so_once(
    client: locksmith.Client, caplog: pytest.LogCaptureFixture
) -> None:
    @run_once("k", client=client, once_per=60)
    def fn() -> None: ...

    fn()
    with caplog.at_level(logging.DEBUG, "locksmith.run_once"):
        fn()
    (record,) = [r for r in caplog.records if r.name == "locksmith.run_once"]
    assert record.levelno == logging.INFO
    assert record.key == "k"  # type: ignore[attr-defined]
    assert record.holder  # type: ignore[attr-defined]
    assert record.since >= 0  # type: ignore[attr-defined]


def test_a_result_that_no_record_can_hold_is_nobodys_business(
    client: locksmith.Client, caplog: pytest.LogCaptureFixture
) -> None:
    @run_once("k", client=client, once_per=60)
    def fn() -> object:
        return object()

    assert type(fn()) is object
    assert fn() is SKIPPED
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_lost_run_does_not_close_the_window(client: locksmith.Client) -> None:
    @run_once("k", client=client, once_per=60)
    def fn(lose: bool) -> str:
        if lose:
            client.evict("k", locksmith.current_lease().token)  # type: ignore[union-attr]
        return "ran"

    with pytest.raises(LeaseLost) as caught:
        fn(True)
    assert caught.value.result == "ran"
    assert fn(False) == "ran"


def test_at_least_and_once_per(client: locksmith.Client, clock: VirtualClock) -> None:
    @run_once("k", client=client, once_per=20, at_least=60)
    def fn() -> str:
        return "ran"

    assert fn() == "ran"
    clock.advance(30)
    assert fn() is SKIPPED
    clock.advance(31)
    assert fn() == "ran"


def locksmith_store(client: locksmith.Client) -> Any:
    return client._engine.store


def test_a_record_is_tried_again_while_there_is_time(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with locksmith.connect(store) as client:
        real, tries = locksmith_store(client).put, []

        async def put(*args: Any, **kwargs: Any) -> Any:
            tries.append(1)
            if len(tries) < 3:
                raise locksmith.StoreUnavailable("no server")
            return await real(*args, **kwargs)

        monkeypatch.setattr(locksmith_store(client), "put", put)

        @run_once("k", client=client, once_per=60)
        def fn() -> str:
            return "ran"

        assert fn() == "ran"
        assert fn() is SKIPPED
        assert len(tries) == 3


def test_the_record_is_there_before_the_name_is_free(client: locksmith.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = locksmith_store(client).release, []

    async def release(grant: Any) -> Any:
        seen.append(await locksmith_store(client).get("k"))
        return await real(grant)

    monkeypatch.setattr(locksmith_store(client), "release", release)
    run_once("k", client=client, once_per=60)(lambda: None)()
    assert len(seen) == 1
    assert seen[0] is not None


def test_a_record_that_cannot_be_written_costs_a_warning(
    client: locksmith.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def put(*args: Any, **kwargs: Any) -> Any:
        raise locksmith.StoreProtocolError("nonsense")

    monkeypatch.setattr(locksmith_store(client), "put", put)

    @run_once("k", client=client, once_per=60)
    def fn() -> str:
        return "ran"

    assert fn() == "ran"
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "could not be recorded" in record.getMessage()


def test_threads_in_disorder_never_break_the_window(store: str) -> None:
    """P11, as a history: runs of one key do not overlap, and none starts after one that completed."""
    history: list[tuple[str, int, int]] = []
    running: Counter[int] = Counter()

    @run_once("k:{key}", store=store, once_per=60, on_conflict="wait", wait=10)
    def work(key: int, number: int) -> None:
        running[key] += 1
        assert running[key] == 1
        history.append(("start", key, number))
        try:
            if number % 3:
                raise ValueError(number)
            history.append(("done", key, number))
        finally:
            running[key] -= 1

    def worker(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(60):
            with suppress(ValueError):
                work(order.randrange(20), order.randrange(100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(8)))
    done = set()
    for what, key, _ in history:
        assert key not in done, "started, or completed, again in the window"
        if what == "done":
            done.add(key)
    assert done


def test_a_cell_of_somebody_else_is_not_read_as_a_record(client: locksmith.Client) -> None:
    drive(locksmith_store(client).put("k", b'{"cursor": 5}'))

    @run_once("k", client=client, once_per=60)
    def fn() -> None: ...

    with pytest.raises(ConfigurationError, match="did not write"):
        fn()


@pytest.mark.parametrize("settings", [{"once_per": 60}, {"on_conflict": "join"}])
def test_a_store_without_cells_is_refused(
    client: locksmith.Client, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(MemoryStore, "guarantees", MemoryStore.guarantees & ~Guarantee.CELLS)

    @run_once("k", client=client, **settings)
    def fn() -> None: ...

    with pytest.raises(GuaranteeMissing, match="CELLS"):
        fn()
