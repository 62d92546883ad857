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
    LeaseLost,
    SelfDeadlock,
    StoreUnavailable,
    current_lease,
    run_once,
)
from locksmith.adapters.run_once import Skipped
from locksmith.testing.clock import VirtualClock
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
    assert "k is running" in message
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

    with running(fn, job), pytest.raises(AlreadyRunning, match="'k' is running by") as caught:
        fn()
    assert caught.value.holder is not None
    assert caught.value.holder.endswith(f":{os.getpid()}")
    assert caught.value.since is not None
    assert 0 <= caught.value.since < 10


def test_wait(store: str) -> None:
    job = Job()

    @run_once("k", store=store, on_conflict="wait")
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


# Leases


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


# Methods


class Account:
    runs: list[Any]

    def __init__(self, number: int) -> None:
        self.number = number
        self.runs = []

    @run_once("{self.number}:{x}", store="memory://methods")
    def method(self, x: int) -> object:
        self.runs.append(x)
        return self.method(x) if len(self.runs) == 1 else x

    @classmethod
    @run_once("class:{cls.__name__}:{x}", store="memory://methods")
    def below(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @run_once("above:{cls.__name__}:{x}", store="memory://methods")
    @classmethod
    def above(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @staticmethod
    @run_once("static:{x}", store="memory://methods")
    def static(x: int) -> int:
        return x

    @run_once("static-above:{x}", store="memory://methods")
    @staticmethod
    def static_above(x: int) -> int:
        return x

    @property
    @run_once("property:{self.number}", store="memory://methods")
    def size(self) -> int:
        return self.number


class Sub(Account): ...


def test_methods() -> None:
    account = Account(7)
    assert account.method(3) is SKIPPED
    assert account.runs == [3]
    assert Account.method(Account(8), 4) is SKIPPED
    assert Account.below(1) == Account.above(1) == ("Account", 1)
    assert Sub.below(1) == Sub(1).above(1) == ("Sub", 1)
    assert Account.static(2) == Account(1).static(2) == Account.static_above(2) == Account(1).static_above(2) == 2
    assert account.size == 7
    assert inspect.ismethod(account.method)


@pytest.mark.parametrize("thing", [Account, 42, property(lambda self: 1)])
def test_what_is_no_function_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="decorates functions"):
        run_once("x")(thing)


def test_callable_objects_and_partials_with_a_key(store: str) -> None:
    class Adder:
        def __call__(self, a: int) -> int:
            return a + 1

    assert run_once("adder", store=store)(Adder())(1) == 2

    def add(a: int, b: int) -> int:
        return a + b

    assert run_once("partial:{b}", store=store)(functools.partial(add, 1))(2) == 3


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
