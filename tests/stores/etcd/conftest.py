"""Stores in both runtimes on a real etcd, and claims for them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from locksmith import names
from locksmith.runtime import Blocking, Runtime, drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Claim, Gone, Grant, Ticket
from locksmith.testing.servers import EtcdEnsemble, EtcdServer, ServerMissing
from locksmith_etcd import EtcdStore

T = TypeVar("T")


class Face:
    """A runtime, and how its coroutines are run from a test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[EtcdStore] = []
        self._runner = asyncio.Runner() if name == "asyncio" else None

    def runtime(self) -> Runtime:
        return Asyncio() if self._runner is not None else Blocking()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return drive(work) if self._runner is None else self._runner.run(work)

    def store(self, target: Any, namespace: str) -> EtcdStore:
        make: Any = EtcdStore.from_url if isinstance(target, str) else EtcdStore.from_client
        store: EtcdStore = make(target, runtime=self.runtime(), namespace=namespace)
        self.opened.append(store)
        return store

    def news(self, store: EtcdStore, ticket: Ticket, within: float = 20.0, beats: bool = True) -> Grant | Gone:
        """What becomes of a ticket, asked about every now and then as the keeper does."""
        until = time.monotonic() + within
        while (news := ticket.inbox.peek()) is None:
            assert time.monotonic() < until, "no news"
            self.run(store.wait(ticket, 0.3))
            if beats and ticket.inbox.peek() is None:
                (word,) = self.run(store.beat([], [ticket], within=2.0))
                if isinstance(word, Grant | Gone):
                    return word
        assert isinstance(news, Grant | Gone)
        return news

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
def claim() -> Callable[..., Claim]:
    """Claims with owners of their own."""

    def make(name: str = "n", *, ttl: float = 30.0, permits: int = 1, limit: int = 1) -> Claim:
        return Claim(name, names.encode(name), secrets.token_hex(16), ttl, permits, limit, min(10.0, ttl), 0.0, "{}")

    return make


@pytest.fixture
def start_etcd() -> Iterator[Callable[..., EtcdServer]]:
    """Start an etcd for this test alone, with the options of `EtcdServer`."""
    with ExitStack() as stack:

        def start(**options: Any) -> EtcdServer:
            try:
                return stack.enter_context(EtcdServer(**options))
            except ServerMissing as missing:
                pytest.skip(str(missing))

        yield start


@pytest.fixture(scope="module")
def ensemble() -> Iterator[EtcdEnsemble]:
    """Three members whose life the tests of this module command; they put it back in order."""
    try:
        with EtcdEnsemble() as made:
            yield made
    except ServerMissing as missing:
        pytest.skip(str(missing))
