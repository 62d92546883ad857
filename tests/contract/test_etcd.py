"""The etcd store keeps the contract, on real etcd servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import RestartCases, ServerCases, StoreContract
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import EtcdServer

pytestmark = pytest.mark.etcd


class TestEtcd(StoreContract):
    short = 1.0  # etcd counts whole seconds
    rounds = 2000  # each is a commit

    @pytest.fixture(autouse=True)
    def _server(self, etcd_server: EtcdServer) -> None:
        self.server = etcd_server

    def url(self) -> str:
        return self.server.url


class TestEtcdServer(ServerCases):
    """Connections lead through a proxy, which ends them all at a word; etcd has no command for that."""

    short = 1.0

    @pytest.fixture(autouse=True)
    def _server(self, own_etcd: EtcdServer) -> Iterator[None]:
        self.server = own_etcd
        with Proxy(own_etcd.address) as self.proxy:
            yield

    def url(self) -> str:
        return self.proxy.through(self.server.url)

    def break_connections(self) -> None:
        self.proxy.drop()


class TestEtcdThatWasKilled(RestartCases):
    crashes = True

    @pytest.fixture(autouse=True)
    def _server(self, own_etcd: EtcdServer) -> None:
        self.server = own_etcd

    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="module")
def own_etcd() -> Iterator[EtcdServer]:
    """A server whose life these tests command."""
    with EtcdServer() as server:
        yield server
