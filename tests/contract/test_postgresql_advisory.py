"""PostgreSQL's session locks keep the contract, on real servers."""

from __future__ import annotations

import pytest

from locksmith.testing.contract import StoreContract
from locksmith.testing.servers import PostgreSQLServer

pytestmark = pytest.mark.postgresql


class TestPostgreSQLAdvisory(StoreContract):
    rounds = 2000
    short = 0.6

    @pytest.fixture(autouse=True)
    def _server(self, postgresql_server: PostgreSQLServer) -> None:
        self.server = postgresql_server

    def url(self) -> str:
        url = self.server.url
        return f"{url}{'&' if '?' in url else '?'}mode=advisory"
