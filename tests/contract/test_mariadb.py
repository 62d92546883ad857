"""The MySQL store keeps the contract, on real MariaDB servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import ServerCases, StoreContract
from locksmith.testing.servers import MariaDBServer

pytestmark = pytest.mark.mariadb


class TestMariaDB(StoreContract):
    rounds = 2000  # each is two commits
    short = 0.6  # a busy disk makes a dozen of them slow

    @pytest.fixture(autouse=True)
    def _server(self, mariadb_server: MariaDBServer) -> None:
        self.server = mariadb_server

    def url(self) -> str:
        return self.server.url


class TestMariaDBServer(ServerCases):
    crashes = True

    @pytest.fixture(autouse=True)
    def _server(self, own_mariadb: MariaDBServer) -> None:
        self.server = own_mariadb

    def url(self) -> str:
        return self.server.url_for(scheme="mariadb")

    def break_connections(self) -> None:
        for number in self.server.sql(
            "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = 'app'"
        ).split():
            self.server.sql(f"KILL CONNECTION {number}")


@pytest.fixture(scope="module")
def own_mariadb() -> Iterator[MariaDBServer]:
    """A server whose life these tests command."""
    with MariaDBServer() as server:
        yield server
