"""rate_limited: functions and methods, plain and async, that are called at most so often."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import locksmith
from locksmith import ConfigurationError, GuaranteeMissing, InvalidName, RateLimited, StoreUnavailable, rate_limited
from locksmith.aio import connect
from locksmith.memory import MemoryStore
from locksmith.store import Guarantee
from locksmith.testing.clock import VirtualClock


def test_calls_beyond_the_limit_raise(client: locksmith.Client, clock: VirtualClock) -> None:
    ran = []

    @rate_limited("2/m", burst=1, on_limit="raise", client=client)
    def send(to: str, *, text: str = "") -> str:
        """Send it."""
        ran.append(to)
        return to + text

    assert [send("a"), send("b", text="!")] == ["a", "b!"]
    with pytest.raises(RateLimited) as limited:
        send("c")
    assert limited.value.retry_after == 30
    assert ran == ["a", "b"]
    clock.advance(30)
    assert send("d") == "d"


def test_calls_wait_for_their_slot(client: locksmith.Client, clock: VirtualClock) -> None:
    ran = []

    @rate_limited("1/m", client=client)
    def send(number: int) -> None:
        ran.append(number)

    send(1)
    thread = threading.Thread(target=send, args=[2])
    thread.start()
    clock.wait_for_sleepers(1)
    clock.advance(59)
    assert ran == [1]
    clock.advance(1)
    thread.join(10)
    assert ran == [1, 2]


def test_a_wait_may_be_bounded(client: locksmith.Client) -> None:
    @rate_limited("1/m", wait=30, client=client)
    def send() -> int:
        return 1

    assert send() == 1
    with pytest.raises(RateLimited):
        send()


def test_each_key_has_a_limit_of_its_own(client: locksmith.Client) -> None:
    @rate_limited("1/h", key="{user}:{kind.__name__}", on_limit="raise", client=client)
    def send(user: str, kind: type = int) -> str:
        return user

    assert [send("ann"), send("bob"), send("ann", str)] == ["ann", "bob", "ann"]
    for args in (["ann"], ["ann", int], ["bob"]):
        with pytest.raises(RateLimited):
            send(*args)

    @rate_limited("1/h", key=lambda user, **_: user.upper(), on_limit="raise", client=client)
    def ask(user: str, **rest: Any) -> str:
        return user

    assert [ask("ann", a=1), ask("bob")] == ["ann", "bob"]
    with pytest.raises(RateLimited):
        ask("Ann")


def test_functions_share_a_limit_by_name_only(client: locksmith.Client) -> None:
    def made(**settings: Any) -> Any:
        @rate_limited("1/h", on_limit="raise", client=client, **settings)
        def send() -> int:
            return 1

        return send

    first, second, other = made(name="sms"), made(name="sms"), made()
    assert [first(), other()] == [1, 1]
    for shared in (first, second, made()):  # made() again: the same function, by its name
        with pytest.raises(RateLimited):
            shared()
    assert client.rate_limit("sms", "1/h").try_take() is False


def test_a_call_may_cost_more(client: locksmith.Client) -> None:
    @rate_limited("10/h", burst=3, cost=4, on_limit="raise", client=client)
    def send() -> int:
        return 1

    assert send() == 1
    with pytest.raises(RateLimited):
        send()


@pytest.mark.asyncio
async def test_async_functions() -> None:
    clock = VirtualClock()
    async with connect("memory://", clock=clock) as client:
        ran = []

        @rate_limited("1/m", client=client)
        async def send(number: int) -> int:
            ran.append(number)
            return number

        assert inspect.iscoroutinefunction(send)
        assert await send(1) == 1
        waiting = asyncio.ensure_future(send(2))
        await clock.advance_async(59)
        assert ran == [1]
        await clock.advance_async(1)
        assert await waiting == 2

        @rate_limited("1/m", on_limit="raise", client=lambda: client)
        async def other() -> int:
            return 1

        assert await other() == 1
        with pytest.raises(RateLimited):
            await other()


@pytest.mark.asyncio
async def test_whoever_is_cancelled_while_waiting_does_not_run() -> None:
    async with connect("memory://cancelled-call") as client:
        ran = []

        @rate_limited("1/h", client=client)
        async def send(number: int) -> None:
            ran.append(number)

        await send(1)
        waiting = asyncio.ensure_future(send(2))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ran == [1]


class Sender:
    def __init__(self, user: str) -> None:
        self.user = user

    @rate_limited("1/h", key="{self.user}", on_limit="raise", store="memory://rate-methods")
    def send(self) -> str:
        return self.user

    @classmethod
    @rate_limited("1/h", name="below", on_limit="raise", store="memory://rate-methods")
    def below(cls) -> str:
        return cls.__name__

    @rate_limited("1/h", name="above", on_limit="raise", store="memory://rate-methods")
    @classmethod
    def above(cls) -> str:
        return cls.__name__

    @rate_limited("1/h", name="static", on_limit="raise", store="memory://rate-methods")
    @staticmethod
    def static(number: int) -> int:
        return number


def test_methods() -> None:
    ann = Sender("ann")
    assert [ann.send(), Sender("bob").send(), Sender.below(), Sender.above(), Sender.static(3)] == [
        "ann", "bob", "Sender", "Sender", 3,
    ]  # fmt: skip
    for again in (ann.send, Sender("ann").send, Sender.below, ann.above, functools.partial(Sender.static, 4)):
        with pytest.raises(RateLimited):
            again()


def test_it_looks_like_the_function(store: str) -> None:
    @rate_limited("1/h", store=store)
    def send(user: str, *, number: int = 1) -> str:
        """Send it."""
        return user

    assert (send.__name__, send.__doc__) == ("send", "Send it.")
    assert str(inspect.signature(send)) == "(user: 'str', *, number: 'int' = 1) -> 'str'"
    with pytest.raises(TypeError):
        send()  # type: ignore[call-arg]


def test_the_store_is_looked_up_at_the_first_call(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    @rate_limited("1/h", on_limit="raise")
    def send() -> int:
        return 1

    monkeypatch.delenv("LOCKSMITH_URL", raising=False)
    with pytest.raises(ConfigurationError, match="LOCKSMITH_URL"):
        send()
    monkeypatch.setenv("LOCKSMITH_URL", store)
    assert send() == 1
    with pytest.raises(RateLimited):
        send()


def test_nothing_runs_where_the_store_cannot_be_asked(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    async def pace(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(MemoryStore, "pace", pace)

    @rate_limited("1/h", store=store)
    def send() -> None:
        raise AssertionError

    with pytest.raises(StoreUnavailable):
        send()


def test_a_store_without_a_clock_is_refused(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    monkeypatch.setattr(MemoryStore, "guarantees", MemoryStore.guarantees & ~Guarantee.CLOCK)

    @rate_limited("1/h", store=store)
    def send() -> None:
        raise AssertionError

    with pytest.raises(GuaranteeMissing, match="CLOCK"):
        send()


def send(user: str, number: int = 1) -> None: ...


def generates() -> Iterator[int]:
    yield 1


async def generates_async() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("rates", "settings"),
    [
        ((), {}),
        ((send,), {}),
        ((70,), {}),
        (("0/s",), {}),
        (("70/s",), {"key": "{nobody}"}),
        (("70/s",), {"key": "{user"}),
        (("70/s",), {"key": ""}),
        (("70/s",), {"on_limit": "skip"}),
        (("70/s",), {"on_limit": "raise", "wait": 1}),
        (("70/s",), {"wait": -1}),
        (("70/s",), {"wait": float("nan")}),
        (("70/s",), {"burst": -1}),
        (("70/s",), {"cost": 0}),
        (("70/s",), {"cost": 71}),
        (("70/s", "10/h"), {"cost": 11}),
        (("70/s",), {"name": ""}),
        (("70/s",), {"client": "memory://"}),
        (("70/s",), {"client": send, "store": "memory://"}),
        (("70/s",), {"store": object()}),
    ],
)
def test_settings_that_cannot_work(rates: Any, settings: Any) -> None:
    """All of them when the function is decorated."""
    with pytest.raises(ConfigurationError):
        rate_limited(*rates, **settings)(send)


@pytest.mark.parametrize("what", [generates, generates_async, Sender, 7])
def test_what_cannot_be_decorated(what: Any) -> None:
    with pytest.raises(ConfigurationError):
        rate_limited("70/s")(what)


def test_keys_that_cannot_be(store: str) -> None:
    @rate_limited("70/s", key=lambda user: user, store=store)
    def by_callable(user: Any) -> None: ...

    for key in ("", 7):
        with pytest.raises(ConfigurationError):
            by_callable(key)
    assert issubclass(InvalidName, ConfigurationError)
