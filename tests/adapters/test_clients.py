"""Which store a decorated function uses."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import locksmith
from locksmith import SKIPPED, ClientClosed, ConfigurationError, run_once
from locksmith.adapters import clients, clients_async


@pytest.fixture(autouse=True)
def no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCKSMITH_URL", raising=False)


def test_without_a_store_the_error_says_what_to_set() -> None:
    @run_once("k")
    def fn() -> None: ...

    with pytest.raises(ConfigurationError, match=r"LOCKSMITH_URL.*store=.*client="):
        fn()


def test_the_environment_is_read_at_the_first_call(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @run_once("k")
    def fn() -> Any:
        with locksmith.connect(store) as client:
            return client.inspect("k").holders

    @run_once("k")
    async def other() -> Any:
        async with locksmith.aio.connect(store) as client:
            return (await client.inspect("k")).holders

    monkeypatch.setenv("LOCKSMITH_URL", store)
    assert fn()
    assert asyncio.run(other())
    # Not again: a change that comes later would have two calls guarded by two stores.
    monkeypatch.setenv("LOCKSMITH_URL", "memory://elsewhere")
    assert fn()
    assert asyncio.run(other())


def test_decorating_never_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSMITH_URL", "nonsense://")

    @run_once("k")
    def one() -> None: ...

    @run_once("k", store="also-nonsense")
    def two() -> None: ...

    @run_once("k", client=lambda: pytest.fail("called"))
    def three() -> None: ...

    with pytest.raises(locksmith.UnknownScheme):
        one()
    with pytest.raises(ConfigurationError):
        two()


def test_functions_share_a_client(store: str) -> None:
    for n in range(5):
        run_once(f"k{n}", store=store)(lambda: None)()
    assert len([url for pid, url in clients._shared if url == store]) == 1


def test_a_client_may_be_given(store: str) -> None:
    with locksmith.connect(store) as client:

        @run_once("k", client=client)
        def fn() -> bool:
            return bool(client.inspect("k").holders)

        assert fn()
    with pytest.raises(ClientClosed):
        fn()


def test_threads_that_come_together_find_one_client(store: str) -> None:
    made: list[locksmith.Client] = []
    together = threading.Barrier(8)

    def make() -> locksmith.Client:
        made.append(locksmith.connect(store))
        return made[-1]

    @run_once("k:{n}", client=make)
    def fn(n: int) -> int:
        return n

    def first_call(n: int) -> int:
        together.wait(10)
        return fn(n)  # type: ignore[return-value]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(first_call, range(8))) == list(range(8))
    assert len(made) == 1
    made[0].close()


def test_a_callable_is_asked_once_and_again_when_its_client_was_closed(store: str) -> None:
    made: list[locksmith.Client] = []

    def make() -> locksmith.Client:
        made.append(locksmith.connect(store))
        return made[-1]

    @run_once("k", client=make)
    def fn() -> int:
        return 1

    assert [fn(), fn(), len(made)] == [1, 1, 1]
    made[0].close()
    assert [fn(), len(made)] == [1, 2]
    made[1].close()


def test_no_secret_in_an_error() -> None:
    url: Any = "redis://:hunter2@localhost/0"

    async def coro() -> None: ...

    for fn in (lambda: None, coro):
        with pytest.raises(ConfigurationError, match="store=") as caught:
            run_once("k", client=url)(fn)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("made", [None, "memory://"])
def test_a_callable_must_return_a_client(made: Any) -> None:
    def plain() -> None: ...

    async def coro() -> None: ...

    with pytest.raises(ConfigurationError, match="client= returned"):
        run_once("k", client=lambda: made)(plain)()
    with pytest.raises(ConfigurationError, match="client= returned"):
        asyncio.run(run_once("k", client=lambda: made)(coro)())


def test_every_event_loop_has_a_client_of_its_own_and_closes_it(store: str) -> None:
    used = []

    @run_once("k", store=store)
    async def fn() -> int:
        (here,) = (loop for (_, which), loop in clients_async._loops.items() if which is asyncio.get_running_loop())
        used.append(here.clients[store])
        return 1

    async def twice() -> None:
        assert [await fn(), await fn()] == [1, 1]

    asyncio.run(twice())
    asyncio.run(twice())
    first, again, second, _ = used
    assert first is again is not second
    assert first._engine.closed
    assert second._engine.closed
    asyncio.run(twice())
    gc.collect()
    assert len([1 for pid, loop in clients_async._loops if pid == os.getpid()]) == 1, "closed loops are forgotten"


def test_an_async_client_may_be_given_or_made(store: str) -> None:
    async def main() -> None:
        async with locksmith.aio.connect(store) as client:
            given = run_once("k", client=client)(body)
            made = run_once("k", client=lambda: client)(body)
            assert [await given(), await made()] == [1, 1]
        with pytest.raises(ClientClosed):
            await given()

    async def body() -> int:
        return 1

    asyncio.run(main())


def test_a_forked_child_gets_a_client_that_works(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/locks.db"

    @run_once("k:{n}", store=url)
    def fn(n: int) -> int:
        return n

    assert fn(1) == 1

    @run_once("outer", store=url)
    def outer() -> int:
        pid = os.fork()
        if pid == 0:
            # The parent holds "outer"; nothing of that is ours.
            good = fn(1) == 1 and outer() is SKIPPED
            os._exit(0 if good else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert outer() == 0
    assert fn(1) == 1


def test_each_process_looks_for_its_store(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSMITH_URL", f"sqlite:///{tmp_path}/parent.db")

    @run_once("k")
    def fn() -> None: ...

    fn()
    pid = os.fork()
    if pid == 0:
        try:
            os.environ["LOCKSMITH_URL"] = f"sqlite:///{tmp_path}/child.db"
            fn()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert (tmp_path / "child.db").exists()


def test_a_child_that_was_forked_in_the_function_and_comes_out_of_it_is_told(tmp_path: Any) -> None:
    @run_once("k", store=f"sqlite:///{tmp_path}/locks.db", once_per=60)
    def fn() -> int:
        return os.fork()

    try:
        pid = fn()
    except locksmith.InheritedLease:
        os._exit(7)
    if pid == 0:
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert fn() is SKIPPED
