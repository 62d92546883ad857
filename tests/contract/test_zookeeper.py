"""The ZooKeeper store keeps the contract, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from locksmith.testing.contract import ServerCases, StoreContract
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import ZooKeeperServer

pytestmark = pytest.mark.zookeeper


class TestZooKeeper(StoreContract):
    short = 0.6  # kazoo gives up connections that are silent for a third of their session
    rounds: ClassVar[int] = 2_000

    @pytest.fixture(autouse=True)
    def _server(self, zookeeper_server: ZooKeeperServer) -> None:
        self.server = zookeeper_server

    def url(self) -> str:
        return self.server.url


class TestZooKeeperServer(ServerCases):
    """Through a proxy, which can break connections as no command of the server can."""

    short = 0.6

    @pytest.fixture(autouse=True)
    def _server(self, own_zookeeper: ZooKeeperServer) -> Iterator[None]:
        self.server = own_zookeeper
        with Proxy(own_zookeeper.address) as self.proxy:
            yield

    def url(self) -> str:
        return self.proxy.through(self.server.url)

    def break_connections(self) -> None:
        self.proxy.drop()


@pytest.fixture(scope="module")
def own_zookeeper() -> Iterator[ZooKeeperServer]:
    """A server whose life these tests command."""
    with ZooKeeperServer() as server:
        yield server
