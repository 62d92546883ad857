"""Multi-locks where the store fails, is slow, or takes names only one by one; on a clock that only tests move."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from electionbench import Bench

import locksmith
from locksmith import events
from locksmith.errors import (
    AcquireTimeout,
    ConfigurationError,
    GuaranteeMissing,
    InheritedLease,
    InvalidName,
    InvalidTTL,
    LeaseLost,
    StoreError,
    StoreUnavailable,
)
from locksmith.memory import MemoryStore
from locksmith.runtime import Blocking
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Claim, Grant
from locksmith.testing import VirtualClock, eventually
from locksmith.testing.faults import FaultyStore, When, async_client_over, cancel_everywhere, client_over, places

NAMES = ("a", "b", "c")


def one_by_one(store: FaultyStore) -> None:
    """Make it a store that cannot take several names in one step."""
    store.inner.takes_together = lambda claims: False  # type: ignore[method-assign]


def held(bench: Bench) -> set[str]:
    return {name for name in NAMES if bench.rivals.inspect(name).holders}


def nothing_left(bench: Bench) -> None:
    """At the latest a few pauses of the keeper after the store can be asked again."""

    def nothing() -> bool:
        bench.clock.advance(0.5)
        views = [bench.rivals.inspect(name) for name in NAMES]
        return not any(view.holders or view.waiters for view in views)

    eventually(nothing, within=10)


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "from 1 to 64 names, not 0"),
        ([str(number) for number in range(65)], "not 65"),
        (["a", "b", "a"], "'a' twice"),
        ("abc", "not one text"),
        (7, "not int"),
    ],
)
def test_what_are_no_names_is_refused_before_anything_is_sent(bench: Bench, names: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        bench.client.lock_all(names)
    assert bench.store.calls == []


def test_each_name_and_setting_is_checked_as_for_a_lock(bench: Bench) -> None:
    client = bench.client
    for names in (["a", ""], ["a", None], ["a", "x" * 1025]):
        with pytest.raises(InvalidName):
            client.lock_all(names)  # type: ignore[arg-type]
    with pytest.raises(InvalidTTL):
        client.lock_all(NAMES, ttl=0)
    for bad in (-1, "soon", float("nan")):
        with pytest.raises(ConfigurationError):
            client.lock_all(NAMES).acquire(wait=bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        client.lock_all(NAMES).acquire(max_hold=0)
    with pytest.raises(ConfigurationError):
        client.lock_all(NAMES).acquire(note="x" * 257)
    with pytest.raises(TypeError, match="only names"), client.lock_all(NAMES):
        pass
    with locksmith.connect("consul://localhost:1") as other, pytest.raises(GuaranteeMissing):
        other.lock_all(NAMES, lock_delay=1)
    assert bench.store.calls == []


def test_a_cell_is_not_guarded_by_several_names(bench: Bench) -> None:
    with bench.client.lock_all(NAMES).acquire() as lease, pytest.raises(ConfigurationError, match="MultiLease"):
        bench.client.cell("x").put(1, guard=lease)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- how it is asked


def test_free_names_are_one_call_of_the_store(bench: Bench) -> None:
    with bench.client.lock_all(["c", "a", "b"]).acquire(note="n", max_hold=5) as lease:
        assert bench.store.verbs() == ["acquire_all"]
        assert lease.names == ("c", "a", "b")
        assert {name: view.token for name in NAMES for view in bench.rivals.inspect(name).holders} == lease.tokens
        assert repr(lease).startswith("<MultiLease {'c': ")
    (claims,) = bench.store.calls[0].arguments
    assert [claim.key for claim in claims] == ["a", "b", "c"]
    assert len({claim.owner for claim in claims}) == 3
    assert all(claim.ttl == 5 for claim in claims)


def test_a_store_without_such_a_step_is_asked_in_the_order_of_the_keys(bench: Bench) -> None:
    one_by_one(bench.store)
    with bench.client.lock_all(["c", "a", "b"]).acquire() as lease:
        assert [call.arguments[0].name for call in bench.store.calls] == ["a", "b", "c"]
        assert set(lease.tokens) == held(bench) == set(NAMES)
    # Given back from the last one: who waits for all of them waits for the first.
    assert [call.arguments[0].claim.name for call in bench.store.calls[3:]] == ["c", "b", "a"]


def test_a_refused_try_of_such_a_store_gives_back_what_it_got(bench: Bench) -> None:
    one_by_one(bench.store)
    with bench.rivals.lock("b").acquire():
        assert bench.client.lock_all(NAMES).try_acquire() is None
        assert bench.store.verbs() == ["acquire", "acquire", "release"]
        assert held(bench) == {"b"}
    assert held(bench) == set()


def test_waiting_is_bounded_by_the_time_given_for_all_names(bench: Bench) -> None:
    first, third = bench.rivals.lock("a").acquire(), bench.rivals.lock("c").acquire()
    failed: list[Exception] = []

    def wait() -> None:
        try:
            bench.client.lock_all(NAMES).acquire(wait=10)
        except AcquireTimeout as error:
            failed.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: bench.rivals.inspect("a").waiters, within=10)
    bench.clock.advance(6)
    first.release()
    eventually(lambda: bench.rivals.inspect("c").waiters, within=10)
    assert held(bench) == set(NAMES)
    bench.clock.advance(3.9)
    assert not failed
    bench.clock.advance(0.2)
    waiting.join(10)
    assert "'a', 'b', 'c'" in str(failed[0])
    assert held(bench) == {"c"}
    third.release()


def test_max_hold_counts_from_when_all_are_held(bench: Bench) -> None:
    rival = bench.rivals.lock("c").acquire()
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(bench.client.lock_all(NAMES).acquire(wait=60, max_hold=10)))
    waiting.start()
    eventually(lambda: bench.rivals.inspect("c").waiters, within=10)
    bench.clock.advance(30)
    assert held(bench) == set(NAMES)
    rival.release()
    waiting.join(10)
    (lease,) = got
    bench.clock.advance(9)
    assert lease.held
    bench.clock.advance(1.1)
    assert not lease.held
    with pytest.raises(LeaseLost, match="max_hold"):
        lease.release()
    nothing_left(bench)


# ------------------------------------------------------------------------------------- ends


def test_a_failed_release_of_one_name_leaves_nothing(bench: Bench) -> None:
    for number in (1, 2, 3):
        lease = bench.client.lock_all(NAMES).acquire()
        bench.store.fail_at(number, "before", lambda: StoreUnavailable("injected"))
        with pytest.raises(StoreUnavailable):
            lease.release()
        assert not lease.held
        bench.heal()
        assert lease.release() is True
        assert lease.release() is False
        nothing_left(bench)
        assert lease.lost.names == ()


def test_what_is_lost_counts_more_than_what_could_not_be_asked(bench: Bench) -> None:
    """`with` forgives a failed release, but not a loss."""
    lease = bench.client.lock_all(NAMES).acquire()
    bench.rivals.evict("a", lease.tokens["a"])
    bench.clock.advance(5)  # a beat has found out
    bench.store.before = bench.broken("release")
    with pytest.raises(LeaseLost, match="'a'"):
        lease.release()
    bench.heal()
    nothing_left(bench)


def test_several_losses_are_told_once_and_all_named(bench: Bench) -> None:
    told: list[tuple[str, ...]] = []
    lease = bench.client.lock_all(NAMES).acquire()
    lease.on_lost(lambda which: told.append(which.lost.names))
    bench.store.before = bench.broken()
    bench.clock.advance(13)
    assert lease.lost.wait(0) is True
    eventually(lambda: told, within=5)
    for end in (lease.check, lease.release):
        with pytest.raises(LeaseLost, match=r"'a' .*'b' .*'c' "):
            end()
    bench.heal()
    bench.clock.advance(1)
    assert told == [NAMES]


def test_trouble_is_told_once_for_each_time_of_trouble(bench: Bench) -> None:
    told: list[float] = []
    with bench.client.lock_all(NAMES).acquire() as lease:
        lease.on_suspect(lambda: told.append(lease.remaining()))
        for times in (1, 2):
            bench.store.before = bench.broken("beat")
            bench.clock.advance(6)
            eventually(lambda times=times: len(told) == times, within=5)
            assert "suspect" in repr(lease)
            bench.heal()
            bench.clock.advance(3)
            assert lease.held
    assert len(told) == 2


def test_a_rounded_ttl_can_be_refused(bench: Bench) -> None:
    inner = bench.store.inner.acquire_all

    async def rounding(claims: Sequence[Claim]) -> list[Grant] | None:
        grants = await inner(claims)
        return None if grants is None else [grant._replace(ttl=60.0) for grant in grants]

    bench.store.inner.acquire_all = rounding  # type: ignore[method-assign]
    with bench.client.lock_all(NAMES, ttl=12).acquire() as lease:
        assert lease.ttl == 60
    with pytest.raises(InvalidTTL, match="60"):
        bench.client.lock_all(NAMES, ttl=12, strict_ttl=True).acquire()
    nothing_left(bench)


def test_a_forked_child_holds_none_of_them() -> None:
    with locksmith.connect(f"memory://{uuid.uuid4().hex}") as client:
        lease = client.lock_all(NAMES).acquire()
        child = os.fork()
        if child == 0:
            try:
                lease.release()
            except InheritedLease:
                os._exit(0 if not lease.held and lease.lost.is_set() else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lease.release() is True


# ------------------------------------------------------------------------------------- a fault at every call


ERRORS: dict[str, Callable[[], BaseException]] = {
    "unavailable": lambda: StoreUnavailable("injected"),
    "bug": lambda: ZeroDivisionError("injected"),
    "interrupt": KeyboardInterrupt,
}


@pytest.mark.parametrize("together", [True, False], ids=["together", "one-by-one"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_fault_at_every_call_leaves_nothing(error: str, together: bool) -> None:
    """Rules 2 and 3, for names that are free, and for one that is not."""
    mine = threading.get_ident()

    def run(number: int, when: When) -> bool:
        with Bench(f"memory://{uuid.uuid4().hex}") as bench:
            if not together:
                one_by_one(bench.store)
            met = bench.store.fail_at(number, when, ERRORS[error], mine=bench.store.runtime.context())
            try:
                with bench.client.lock_all(NAMES).acquire(wait=0):
                    pass
                with bench.rivals.lock("b").acquire(), pytest.raises(AcquireTimeout):
                    bench.client.lock_all(NAMES).acquire(wait=0)
            except (StoreError, ZeroDivisionError, KeyboardInterrupt):
                assert met
            assert threading.get_ident() == mine
            bench.heal()
            nothing_left(bench)
        return bool(met)

    assert len(list(places(run))) >= 6


@pytest.mark.asyncio
@pytest.mark.native_threads
async def test_cancelled_at_every_await_leaves_nothing() -> None:
    """Also while one name is held and the next one waited for, on a store whose every call suspends."""
    url = f"memory://{uuid.uuid4().hex}"
    rival = locksmith.aio.connect(url, namespace="t")
    clients: list[Any] = []

    async def scenario() -> None:
        store = FaultyStore(MemoryStore.from_url(url, runtime=Asyncio(), namespace="t"))
        store.before = store.after = lambda call: asyncio.sleep(0)
        clients.append(async_client_over(store))
        blocking = await rival.lock("b").acquire()
        beside = asyncio.ensure_future(_released_soon(blocking))
        try:
            async with clients[-1].lock_all(["c", "b", "a"]).acquire(wait=20) as lease:
                assert lease.held
        finally:
            await asyncio.wait([beside])

    async def check(place: int, late: bool) -> None:
        for _ in range(500):
            views = [await rival.inspect(name) for name in NAMES]
            if not any(view.holders or view.waiters for view in views):
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError(f"something is left, cancelled at await {place}, {late=}")
        await clients.pop().close()

    assert await cancel_everywhere(scenario, check) > 10
    await rival.close()


async def _released_soon(lease: Any) -> None:
    await asyncio.sleep(0.002)
    await lease.release()


@pytest.mark.asyncio
@pytest.mark.native_threads
async def test_a_loss_can_cancel_the_task() -> None:
    async with locksmith.aio.connect(f"memory://{uuid.uuid4().hex}", ttl=0.3) as client:

        async def work() -> None:
            async with client.lock_all(NAMES).acquire(cancel_on_loss=True) as lease:
                assert await client.evict("b", lease.tokens["b"]) is True
                await asyncio.sleep(20)

        with pytest.raises(LeaseLost, match="'b'"):
            await work()
        for name in ("a", "c"):
            assert not (await client.inspect(name)).holders


def test_a_late_yes_is_not_believed() -> None:
    clock = VirtualClock()
    store = FaultyStore(MemoryStore.from_url(f"memory://{uuid.uuid4().hex}", runtime=Blocking(clock), namespace="t"))
    store.after = lambda call: clock.advance(40) if call.verb == "acquire_all" else None
    with client_over(store, ttl=30) as client:
        with pytest.raises(StoreUnavailable, match="so late"):
            client.lock_all(NAMES).acquire()
        store.after = None
        with client.lock_all(NAMES).acquire(wait=0):
            pass


def test_hooks_are_told_of_every_name() -> None:
    told: list[Any] = []
    with locksmith.connect("memory://", hooks=[told.append]) as client:
        both = client.lock_all(["a", "b"])
        with both.acquire():
            assert both.try_acquire() is None
        assert sorted(event.name for event in told if isinstance(event, events.Acquired)) == ["a", "b"]
        assert sorted(event.name for event in told if isinstance(event, events.GaveUp)) == ["a", "b"]
        assert sorted(event.name for event in told if isinstance(event, events.Released)) == ["a", "b"]
        client.close()
        with pytest.raises(locksmith.ClientClosed):
            both.try_acquire()
        assert sorted(event.name for event in told if isinstance(event, events.Failed)) == ["a", "b"]
