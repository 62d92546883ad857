"""Stores in both runtimes on a real ZooKeeper server, claims for them, and a client of kazoo's own to look with."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from kazoo.client import KazooClient

from locksmith import names
from locksmith.runtime import Blocking, Runtime, drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Claim
from locksmith.testing.servers import ZooKeeperServer
from locksmith_zookeeper import ZooKeeperStore

T = TypeVar("T")


class Face:
    """A runtime, and how its coroutines are run from a test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[ZooKeeperStore] = []
        self._runner = asyncio.Runner() if name == "asyncio" else None

    def runtime(self) -> Runtime:
        return Asyncio() if self._runner is not None else Blocking()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return drive(work) if self._runner is None else self._runner.run(work)

    def store(self, target: Any, namespace: str) -> ZooKeeperStore:
        make: Any = ZooKeeperStore.from_url if isinstance(target, str) else ZooKeeperStore.from_client
        store: ZooKeeperStore = make(target, runtime=self.runtime(), namespace=namespace)
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
def store(face: Face, zookeeper_server: ZooKeeperServer, namespace: str) -> ZooKeeperStore:
    """A store in each runtime."""
    return face.store(zookeeper_server.url, namespace)


@pytest.fixture
def looker(zookeeper_server: ZooKeeperServer) -> Iterator[KazooClient]:
    """Somebody else's client on the same server."""
    client = KazooClient(hosts=f"{zookeeper_server.host}:{zookeeper_server.port}", timeout=20.0)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def claim() -> Callable[..., Claim]:
    """Make a claim: a lock of 30 s unless something else is said."""

    def make(name: str = "n", **settings: Any) -> Claim:
        wanted = {"ttl": 30.0, "permits": 1, "limit": 1, "waiter_ttl": 10.0, "lock_delay": 0.0, "info": "{}"} | settings
        owner = wanted.pop("owner", None) or secrets.token_hex(16)
        return Claim(name=name, key=names.encode(name), owner=owner, **wanted)

    return make
