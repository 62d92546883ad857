"""Stores in both runtimes on a real PostgreSQL server, and claims for them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from locksmith import names
from locksmith.runtime import Blocking, Runtime, drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Claim, Grant, Ticket
from locksmith.testing.servers import PostgreSQLServer
from locksmith_sql.postgresql import PostgreSQLStore

T = TypeVar("T")


class Face:
    """A runtime, and how its coroutines are run from a test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[PostgreSQLStore] = []
        self._runner = asyncio.Runner() if name == "asyncio" else None

    def runtime(self) -> Runtime:
        return Asyncio() if self._runner is not None else Blocking()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return drive(work) if self._runner is None else self._runner.run(work)

    def store(self, target: Any, namespace: str) -> PostgreSQLStore:
        make: Any = PostgreSQLStore.from_url if isinstance(target, str) else PostgreSQLStore.from_client
        store: PostgreSQLStore = make(target, runtime=self.runtime(), namespace=namespace)
        self.opened.append(store)
        return store

    def close(self) -> None:
        for store in self.opened:
            self.run(store.close())
        if self._runner is not None:
            self._runner.close()


@pytest.fixture(params=["asyncio", "blocking"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    """Both runtimes."""
    made = Face(request.param)
    yield made
    made.close()


@pytest.fixture
def blocking() -> Iterator[Face]:
    """The blocking runtime, for what does not depend on it."""
    made = Face("blocking")
    yield made
    made.close()


@pytest.fixture
def store(face: Face, postgresql_server: PostgreSQLServer, namespace: str) -> PostgreSQLStore:
    """A store with nothing in it."""
    return face.store(postgresql_server.url, namespace)


@pytest.fixture
def start_postgresql() -> Iterator[Callable[..., PostgreSQLServer]]:
    """Start a server for this test alone, with the options of `PostgreSQLServer`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(PostgreSQLServer(**options))


def make_claim(name: str = "n", **terms: Any) -> Claim:
    given: dict[str, Any] = {
        "ttl": 30.0,
        "permits": 1,
        "limit": 1,
        "waiter_ttl": 10.0,
        "lock_delay": 0.0,
        "info": "{}",
    } | terms
    return Claim(name=name, key=names.encode(name), owner=secrets.token_hex(16), **given)


@pytest.fixture
def claim() -> Callable[..., Claim]:
    """Claims with owners of their own."""
    return make_claim


def granted(reply: object) -> Grant:
    assert isinstance(reply, Grant), reply
    return reply


def queued(reply: object) -> Ticket:
    assert isinstance(reply, Ticket), reply
    return reply
