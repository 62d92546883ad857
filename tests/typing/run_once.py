"""What type checkers see of run_once in the corners. Never run; `api.py` has the plain cases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, assert_type

import locksmith
from locksmith import SKIPPED, current_lease, run_once
from locksmith.adapters.run_once import Skipped, key_of
from locksmith.aio import AsyncClient, AsyncLease

client = locksmith.connect("memory://")


def make_async_client() -> AsyncClient:
    return locksmith.aio.connect("memory://")


@run_once("a:{n}", once_per=60, client=client)
def skipping(n: int) -> list[int]:
    return [n]


@run_once("a:{n}", once_per=60, on_conflict="wait", wait=5, store="memory://")
def waiting_with_a_window(n: int) -> list[int]:
    return [n]


@run_once("a:{n}", once_per=60, on_conflict="wait", default=0)
def waiting_with_a_default(n: int) -> str:
    return str(n)


@run_once("a:{n}", once_per=60, on_conflict="raise", at_least=5, max_hold=60, ttl=10)
def raising_with_a_window(n: int) -> str:
    return str(n)


def key_of_joining(n: int) -> str:
    return f"a:{n}"


@run_once(key=key_of_joining, once_per=60, on_conflict="join")
def joining(n: int) -> str:
    return str(n)


@run_once(unique_on=["n"], client=make_async_client, default=None)
async def coroutine(n: int, *, force: bool = False) -> str:
    return str(n)


@run_once("g:{n}")
def generator(n: int) -> Generator[int, str, bytes]:
    yield n
    return b""


@run_once("g:{n}", default=[1])
def generator_with_a_default(n: int) -> Iterator[int]:
    yield n


@run_once("g:{n}", on_conflict="wait")
async def async_generator(n: int) -> AsyncIterator[int]:
    yield n


class Account:
    @run_once("m:{n}")
    def method(self, n: int) -> str:
        return str(n)

    @classmethod
    @run_once("c:{n}", on_conflict="raise")
    def make(cls, n: int) -> Account:
        return cls()

    @staticmethod
    @run_once("s:{n}")
    async def static(n: int) -> str:
        return str(n)


async def uses(account: Account) -> None:
    result = skipping(1)
    assert_type(result, list[int] | Skipped)
    if result is SKIPPED:
        return
    assert_type(result, list[int])
    if taken := skipping(n=2):
        assert_type(taken, list[int])
    assert_type(waiting_with_a_window(1), list[int] | Skipped)
    assert_type(waiting_with_a_default(1), str | int)
    assert_type(raising_with_a_window(1), str)
    assert_type(joining(1), str)
    assert_type(await coroutine(1, force=True), str | None)
    assert_type(generator(1), Generator[int, str, bytes])
    assert_type(generator_with_a_default(1), Iterator[int])
    assert_type(async_generator(1), AsyncIterator[int])
    assert_type(account.method(1), str | Skipped)
    assert_type(Account.method(account, n=1), str | Skipped)
    assert_type(Account.make(1), Account)
    assert_type(await Account.static(1), str | Skipped)
    assert_type(key_of(skipping, 1), str)
    assert_type(current_lease(), locksmith.Lease | AsyncLease | None)
    if lease := current_lease():
        assert_type(lease.token, int)
        assert_type(lease.held, bool)


def refused() -> Any:
    # Each of these is an error to a type checker as well; an ignore that is not needed is an error itself.
    skipping("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    skipping(1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    key_of(skipping, "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = waiting_with_a_window(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    return text
