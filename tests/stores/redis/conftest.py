"""Stores in both runtimes on a real redis-server, and claims for them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from locksmith import names
from locksmith.runtime import Blocking, Runtime, drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Claim, Grant, Ticket
from locksmith.testing.servers import RedisServer
from locksmith_redis import RedisStore

T = TypeVar("T")


class Face:
    """A runtime, and how its coroutines are run from a test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[RedisStore] = []
        self._runner = asyncio.Runner() if name == "asyncio" else None

    def runtime(self) -> Runtime:
        return Asyncio() if self._runner is not None else Blocking()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return drive(work) if self._runner is None else self._runner.run(work)

    def store(self, target: Any, namespace: str) -> RedisStore:
        make: Any = RedisStore.from_url if isinstance(target, str) else RedisStore.from_client
        store: RedisStore = make(target, runtime=self.runtime(), namespace=namespace)
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
def store(face: Face, redis_server: RedisServer, namespace: str) -> RedisStore:
    """A store in each runtime."""
    return face.store(redis_server.url, namespace)


@pytest.fixture
def claim() -> Callable[..., Claim]:
    """Make a claim: a lock of 30 s unless something else is said."""

    def make(name: str = "n", **settings: Any) -> Claim:
        wanted = {"ttl": 30.0, "permits": 1, "limit": 1, "waiter_ttl": 10.0, "lock_delay": 0.0, "info": "{}"} | settings
        owner = wanted.pop("owner", None) or secrets.token_hex(16)
        return Claim(name=name, key=names.encode(name), owner=owner, **wanted)

    return make


def granted(reply: Grant | Ticket | None) -> Grant:
    assert isinstance(reply, Grant)
    return reply


def queued(reply: Grant | Ticket | None) -> Ticket:
    assert isinstance(reply, Ticket)
    return reply
