"""The Consul store keeps the contract, on real Consul servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import RestartCases, ServerCases, StoreContract
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import ConsulServer

pytestmark = pytest.mark.consul


class TestConsul(StoreContract):
    rounds = 800

    @pytest.fixture(autouse=True)
    def _server(self, consul_server: ConsulServer) -> None:
        self.server = consul_server

    def url(self) -> str:
        return self.server.url


class TestConsulServer(ServerCases):
    """Connections lead through a proxy, which ends them all at a word; Consul has no command for that."""

    @pytest.fixture(autouse=True)
    def _server(self, own_consul: tuple[ConsulServer, Proxy]) -> None:
        self.server, self.proxy = own_consul

    def url(self) -> str:
        return self.proxy.through(self.server.url)

    def break_connections(self) -> None:
        self.proxy.drop()


class TestConsulThatWasKilled(RestartCases):
    crashes = True

    @pytest.fixture(autouse=True)
    def _server(self, own_consul: tuple[ConsulServer, Proxy]) -> None:
        self.server, _ = own_consul

    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="module")
def own_consul() -> Iterator[tuple[ConsulServer, Proxy]]:
    """A server whose life these tests command, and a proxy in front of it."""
    with ConsulServer(session_ttl_min=0.2) as server:
        proxy = Proxy(server.address)
        try:
            yield server, proxy
        finally:
            proxy.close()
