"""run_once on plain functions and methods: what callers see."""

from __future__ import annotations

import functools
import gc
import inspect
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import locksmith
from locksmith import (
    SKIPPED,
    AcquireTimeout,
    AlreadyRunning,
    ConfigurationError,
    SelfDeadlock,
    run_once,
)
from locksmith.adapters.run_once import Skipped
from locksmith.testing.waiting import eventually


class Job:
    """A function that somebody is in the middle of, until told to end."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.runs = 0

    def body(self) -> int:
        self.runs += 1
        self.started.set()
        assert self.go_on.wait(10)
        return self.runs


@contextmanager
def running(fn: Any, job: Job) -> Iterator[Any]:
    """`fn` runs in a thread; at the end it is let go, and its result is in the future."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(fn)
        assert job.started.wait(10)
        try:
            yield future
        finally:
            job.go_on.set()


def test_bare(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSMITH_URL", store)

    @run_once
    def add(a: int, b: int = 1) -> int:
        """Adds."""
        return a + b

    assert add(1) == 2
    assert add(a=1, b=3) == 4


def test_a_function_stays_what_it_was(store: str) -> None:
    def add(a: int, b: int = 1, *, c: str = "x") -> int:
        """Adds."""
        return a + b

    add.queue = "slow"  # type: ignore[attr-defined]
    guarded: Any = run_once("add", store=store)(add)
    assert (guarded.__name__, guarded.__qualname__, guarded.__doc__) == (add.__name__, add.__qualname__, "Adds.")
    assert guarded.__module__ == __name__
    assert guarded.__wrapped__ is add
    assert guarded.queue == "slow"
    assert inspect.signature(guarded) == inspect.signature(add)
    assert inspect.getfullargspec(guarded) == inspect.getfullargspec(add)
    assert inspect.isfunction(guarded)
    assert not inspect.iscoroutinefunction(guarded)
    assert not inspect.isgeneratorfunction(guarded)


@run_once("pickled", store="memory://pickled")
def at_module_level() -> int:
    return 1


def test_it_is_pickled_by_name() -> None:
    # Under importlib mode the module cannot be imported by name, but a reference to it can be written.
    assert b"at_module_level" in pickletools(at_module_level)


def pickletools(fn: Any) -> bytes:
    sys.modules.setdefault(fn.__module__, sys.modules[__name__])
    return pickle.dumps(fn)


def test_the_first_docstring_line_says_what_it_is() -> None:
    first = (run_once.__doc__ or "").splitlines()[0]
    assert "o two at the same time" in first
    assert "no two in the same period" in (run_once.__doc__ or "")


# Conflicts


def test_a_call_is_skipped_while_another_runs(store: str) -> None:
    job = Job()

    @run_once("k", store=store)
    def fn() -> int:
        return job.body()

    with running(fn, job) as first:
        assert fn() is SKIPPED
    assert first.result() == 1
    assert job.runs == 1
    assert fn() == 2


def test_skipped_is_false_and_unique() -> None:
    assert not SKIPPED
    assert repr(SKIPPED) == "SKIPPED"
    assert isinstance(SKIPPED, Skipped)
    import copy

    assert copy.deepcopy(SKIPPED) is SKIPPED


def test_a_skipped_call_says_so_once(store: str, caplog: pytest.LogCaptureFixture) -> None:
    job = Job()

    @run_once("k", store=store)
    def fn() -> int:
        return job.body()

    with running(fn, job), caplog.at_level(logging.DEBUG, "locksmith.run_once"):
        fn()
    (record,) = [r for r in caplog.records if r.name == "locksmith.run_once"]
    assert record.levelno == logging.INFO
    assert record.key == "k"  # type: ignore[attr-defined]
    assert record.holder.endswith(f":{os.getpid()}")  # type: ignore[attr-defined]
    assert 0 <= record.since < 10  # type: ignore[attr-defined]
    message = record.getMessage()
    assert message.startswith("skipped k: it is running (")
    assert record.holder in message  # type: ignore[attr-defined]


def test_a_default_instead_of_skipped(store: str) -> None:
    job = Job()

    @run_once("k", store=store, default=-1)
    def fn() -> int:
        return job.body()

    with running(fn, job):
        assert fn() == -1


def test_raise(store: str) -> None:
    job = Job()

    @run_once("k", store=store, on_conflict="raise")
    def fn() -> int:
        return job.body()

    with running(fn, job), pytest.raises(AlreadyRunning, match=r"'k' is running \(.*, started ") as caught:
        fn()
    assert caught.value.holder is not None
    assert caught.value.holder.endswith(f":{os.getpid()}")
    assert caught.value.since is not None
    assert 0 <= caught.value.since < 10


def test_wait(store: str) -> None:
    job = Job()

    @run_once("k", store=store, on_conflict="wait", wait=10)
    def fn() -> int:
        return job.body()

    with ThreadPoolExecutor(1) as pool, running(fn, job) as first:
        second = pool.submit(fn)
        with locksmith.connect(store) as client:
            eventually(lambda: client.inspect("k").waiters)
        assert job.runs == 1
        job.go_on.set()
        assert (first.result(), second.result()) == (1, 2)


def test_wait_for_a_while(store: str) -> None:
    job = Job()

    @run_once("k", store=store, on_conflict="wait", wait=0.05)
    def fn() -> int:
        return job.body()

    with running(fn, job), pytest.raises(AcquireTimeout, match=r"not free within 0\.05 s"):
        fn()
    assert job.runs == 1


def test_different_keys_do_not_conflict(store: str) -> None:
    job = Job()

    @run_once("k:{n}", store=store)
    def fn(n: int) -> int:
        return job.body() if n == 0 else n

    with running(lambda: fn(0), job):
        assert fn(5) == 5
        assert fn(n=6) == 6


def test_waiting_for_oneself_is_refused(store: str) -> None:
    @run_once("k", store=store, on_conflict="wait")
    def fn(depth: int) -> int:
        return fn(depth - 1) if depth else 0

    with pytest.raises(SelfDeadlock):
        fn(1)
    assert fn(0) == 0


# Results and exceptions


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), StopIteration(1)])
def test_exceptions_reach_the_caller_untouched_and_free_the_name(store: str, error: BaseException) -> None:
    @run_once("k", store=store, once_per=60)
    def fn(fail: bool) -> int:
        if fail:
            raise error
        return 1

    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            fn(True)
        assert caught.value is error
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
    assert fn(False) == 1


def test_arguments_may_be_changed_by_the_function(store: str) -> None:
    @run_once(store=store)
    def fn(items: list[int]) -> int:
        items.append(1)
        return len(items)

    items: list[int] = []
    assert [fn(items), fn(items), fn(items)] == [1, 2, 3]
    with locksmith.connect(store) as client:
        assert not list(client.names())


def test_a_return_value_may_be_anything(store: str) -> None:
    thing = object()

    @run_once("k", store=store, once_per=60)
    def fn() -> object:
        return thing

    assert fn() is thing


def test_a_coroutine_in_disguise_is_refused(store: str) -> None:
    async def work() -> int:
        return 1

    @run_once("k", store=store)
    @functools.wraps(work)
    def fn() -> Any:
        return work()

    with pytest.raises(ConfigurationError, match="directly on the async function"):
        fn()


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"on_conflict": "explode"},
        {"wait": 1},
        {"wait": 1, "on_conflict": "raise"},
        {"wait": -1, "on_conflict": "wait"},
        {"default": 1, "on_conflict": "raise"},
        {"default": 1, "on_conflict": "wait"},
        {"default": 1, "on_conflict": "join"},
        {"once_per": 0},
        {"once_per": -1},
        {"once_per": float("nan")},
        {"once_per": "60"},
        {"at_least": 0},
        {"max_hold": 0},
        {"ttl": 0},
        {"ttl": float("inf")},
        {"client": 5},
        {"store": 5},
        {"store": "memory://", "client": lambda: None},
    ],
)
def test_settings_that_cannot_work_fail_when_decorating(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):

        @run_once("x", **settings)
        def fn() -> None: ...


def test_asyncio_is_loaded_only_for_async_functions() -> None:
    script = (
        "import sys, locksmith\n"
        "@locksmith.run_once('k', store='memory://')\n"
        "def plain(): return 1\n"
        "@locksmith.run_once('g', store='memory://')\n"
        "def gen(): yield 1\n"
        "assert plain() == 1 and list(gen()) == [1]\n"
        "assert 'asyncio' not in sys.modules\n"
        "async def f(): return 1\n"
        "locksmith.run_once(f)\n"
        "assert 'asyncio' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_nothing_stays_behind(store: str) -> None:
    @run_once("k:{n}", store=store)
    def fn(n: int) -> int:
        return n

    for n in range(100):
        fn(n)
    gc.collect()
    with locksmith.connect(store) as client:
        assert not list(client.names())
