"""Stores in both runtimes on a real MariaDB server, claims for them, and the server's own word."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pymysql
import pytest

from locksmith import names
from locksmith.runtime import Blocking, Runtime, drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Claim, Grant, Ticket
from locksmith.testing.servers import MariaDBServer
from locksmith_sql.mysql import MySQLStore

T = TypeVar("T")


class Face:
    """A runtime, and how its coroutines are run from a test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[MySQLStore] = []
        self._runner = asyncio.Runner() if name == "asyncio" else None

    def runtime(self) -> Runtime:
        return Asyncio() if self._runner is not None else Blocking()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return drive(work) if self._runner is None else self._runner.run(work)

    def store(self, target: Any, namespace: str) -> MySQLStore:
        make: Any = MySQLStore.from_url if isinstance(target, str) else MySQLStore.from_client
        store: MySQLStore = make(target, runtime=self.runtime(), namespace=namespace)
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
def store(face: Face, mariadb_server: MariaDBServer, namespace: str) -> MySQLStore:
    """A store with nothing in it."""
    return face.store(mariadb_server.url, namespace)


@pytest.fixture
def session(mariadb_server: MariaDBServer) -> Iterator[Any]:
    """A cursor of somebody else's, in autocommit mode."""
    with session_of(mariadb_server) as connection:
        yield connection.cursor()


@pytest.fixture
def other_session(mariadb_server: MariaDBServer) -> Iterator[Any]:
    """Another one."""
    with session_of(mariadb_server) as connection:
        yield connection.cursor()


def session_of(server: MariaDBServer) -> Any:
    host, port = server.address
    return pymysql.connect(
        host=host, port=port, user="tester", password=server.password, database="app", autocommit=True
    )


@pytest.fixture
def start_mariadb() -> Iterator[Callable[..., MariaDBServer]]:
    """Start a server for this test alone, with the options of `MariaDBServer`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(MariaDBServer(**options))


@pytest.fixture
def claim() -> Callable[..., Claim]:
    """Claims with owners of their own."""

    def make(name: str = "n", **terms: Any) -> Claim:
        given: dict[str, Any] = {
            "ttl": 30.0,
            "permits": 1,
            "limit": 1,
            "waiter_ttl": 10.0,
            "lock_delay": 0.0,
            "info": "{}",
        } | terms
        return Claim(name=name, key=names.encode(name), owner=secrets.token_hex(16), **given)

    return make


def granted(reply: object) -> Grant:
    assert isinstance(reply, Grant), reply
    return reply


def queued(reply: object) -> Ticket:
    assert isinstance(reply, Ticket), reply
    return reply
