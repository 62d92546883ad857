"""The Redis quorum store keeps the contract, on three real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import ServerCases, StoreContract
from locksmith.testing.servers import RedisNodes

pytestmark = pytest.mark.redis


class TestRedisQuorum(StoreContract):
    short = 0.6
    rounds = 2000

    @pytest.fixture(autouse=True)
    def _servers(self, redis_nodes: RedisNodes) -> None:
        self.nodes = redis_nodes

    def url(self) -> str:
        return self.nodes.url


class TestRedisQuorumServers(ServerCases):
    short = 0.6

    @pytest.fixture(autouse=True)
    def _servers(self, own_nodes: RedisNodes) -> None:
        self.nodes = own_nodes

    def url(self) -> str:
        return self.nodes.url

    def break_connections(self) -> None:
        for node in self.nodes.nodes:
            for kind in ("normal", "pubsub"):
                node.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def restart(self) -> None:
        for node in self.nodes.nodes:
            node.restart()

    def pause(self) -> None:
        for node in self.nodes.nodes:
            node.pause()

    def resume(self) -> None:
        for node in self.nodes.nodes:
            node.resume()


@pytest.fixture(scope="module")
def own_nodes() -> Iterator[RedisNodes]:
    """Three servers whose lives these tests command."""
    with RedisNodes() as nodes:
        yield nodes
