"""The Redis store on a cluster keeps the contract, on three real nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import ServerCases, StoreContract
from locksmith.testing.servers import RedisCluster

pytestmark = pytest.mark.redis


class TestRedisCluster(StoreContract):
    rounds = 4000

    @pytest.fixture(autouse=True)
    def _server(self, redis_cluster: RedisCluster) -> None:
        self.cluster = redis_cluster

    def url(self) -> str:
        return self.cluster.url


class TestRedisClusterServers(ServerCases):
    @pytest.fixture(autouse=True)
    def _server(self, own_cluster: RedisCluster) -> None:
        own_cluster.await_complete()
        self.cluster = own_cluster

    def url(self) -> str:
        return self.cluster.url

    def break_connections(self) -> None:
        for node in self.cluster.nodes:
            for kind in ("normal", "pubsub"):
                node.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def restart(self) -> None:
        for node in self.cluster.nodes:
            node.restart()
        self.cluster.await_complete()

    def pause(self) -> None:
        for node in self.cluster.nodes:
            node.pause()

    def resume(self) -> None:
        for node in self.cluster.nodes:
            node.resume()


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[RedisCluster]:
    """A cluster that does not take its nodes for dead while these cases pause them."""
    with RedisCluster(node_timeout=60.0) as cluster:
        yield cluster
