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
