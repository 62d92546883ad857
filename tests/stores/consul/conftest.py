"""Stores in both runtimes on a real Consul server, and claims for them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from locksmith import names
from locksmith.runtime import Blocking, Runtime, drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Claim
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import ConsulServer
from locksmith_consul import ConsulStore

T = TypeVar("T")


class Face:
    """A runtime, and how its coroutines are run from a test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[ConsulStore] = []
        self._runner = asyncio.Runner() if name == "asyncio" else None

    def runtime(self) -> Runtime:
        return Asyncio() if self._runner is not None else Blocking()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return drive(work) if self._runner is None else self._runner.run(work)

    def store(self, target: Any, namespace: str = "t") -> ConsulStore:
        make: Any = ConsulStore.from_url if isinstance(target, str) else ConsulStore.from_client
        store: ConsulStore = make(target, runtime=self.runtime(), namespace=namespace)
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


@pytest.fixture(scope="package")
def started() -> Iterator[Callable[..., ConsulServer]]:
    """Servers with other settings than everybody's, each started once for this folder."""
    running: dict[str, ConsulServer] = {}

    def start(**options: Any) -> ConsulServer:
        key = repr(sorted(options.items()))
        if key not in running:
            running[key] = ConsulServer(**options).start()
        return running[key]

    yield start
    for server in running.values():
        server.close()


@pytest.fixture
def proxy(consul_server: ConsulServer) -> Iterator[Proxy]:
    """A network in front of everybody's server, for this test alone."""
    made = Proxy(consul_server.address)
    yield made
    made.close()


def claim(name: str = "n", *, ttl: float = 30.0, permits: int = 1, limit: int = 1) -> Claim:
    """A claim with an owner of its own."""
    return Claim(name, names.encode(name), secrets.token_hex(16), ttl, permits, limit, ttl, 0.0, "{}")


@pytest.fixture(name="claim")
def _claim() -> Callable[..., Claim]:
    return claim
