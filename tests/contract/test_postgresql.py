"""The PostgreSQL store keeps the contract, on real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import RestartCases, ServerCases, StoreContract
from locksmith.testing.servers import PostgreSQLServer

pytestmark = pytest.mark.postgresql

OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"


class TestPostgreSQL(StoreContract):
    rounds = 2000  # each is a commit

    @pytest.fixture(autouse=True)
    def _server(self, postgresql_server: PostgreSQLServer) -> None:
        self.server = postgresql_server

    def url(self) -> str:
        return self.server.url


class TestPostgreSQLServer(ServerCases):
    @pytest.fixture(autouse=True)
    def _server(self, own_postgresql: PostgreSQLServer) -> None:
        self.server = own_postgresql

    def url(self) -> str:
        return self.server.url

    def break_connections(self) -> None:
        self.server.sql(OTHERS)


class TestPostgreSQLAfterACrash(RestartCases):
    """DURABLE: not even SIGKILL makes it forget a grant, whatever it was told about synchronous commits."""

    crashes = True

    @pytest.fixture(autouse=True)
    def _server(self, hasty_postgresql: PostgreSQLServer) -> None:
        self.server = hasty_postgresql

    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[PostgreSQLServer]:
    """A server whose life these tests command."""
    with PostgreSQLServer() as server:
        yield server


@pytest.fixture(scope="module")
def hasty_postgresql() -> Iterator[PostgreSQLServer]:
    """The same, with commits that are answered before they are on disk, unless a transaction asks for more."""
    with PostgreSQLServer(config={"synchronous_commit": "off", "wal_writer_delay": "10s"}) as server:
        yield server
