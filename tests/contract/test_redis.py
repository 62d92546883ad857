"""The Redis store keeps the contract, on real redis-servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import RestartCases, ServerCases, StoreContract
from locksmith.testing.servers import RedisServer

pytestmark = pytest.mark.redis


class TestRedis(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.server = redis_server

    def url(self) -> str:
        return self.server.url


class TestRedisServer(ServerCases):
    @pytest.fixture(autouse=True)
    def _server(self, own_redis: RedisServer) -> None:
        self.server = own_redis

    def url(self) -> str:
        return self.server.url

    def break_connections(self) -> None:
        for kind in ("normal", "pubsub"):
            self.server.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


class TestRedisThatWritesEverything(RestartCases):
    """With its append-only file, even SIGKILL makes it forget nothing."""

    crashes = True

    remembers = True

    @pytest.fixture(autouse=True)
    def _server(self, durable_redis: RedisServer) -> None:
        self.server = durable_redis

    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    """A server whose life these tests command."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def durable_redis() -> Iterator[RedisServer]:
    """The same, and it has written what it has answered."""
    with RedisServer(appendonly=True, config={"appendfsync": "always"}) as server:
        yield server
