"""PostgreSQL's session locks keep the contract, on real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import RestartCases, ServerCases, StoreContract
from locksmith.testing.servers import PostgreSQLServer

pytestmark = [pytest.mark.postgresql, pytest.mark.native_threads]  # not promised under gevent

OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
MODE = {"mode": "advisory"}


class TestPostgreSQLAdvisory(StoreContract):
    rounds = 2000
    short = 0.5  # whoever starves for longer has lost, and that is no matter of this store

    @pytest.fixture(autouse=True)
    def _server(self, postgresql_server: PostgreSQLServer) -> None:
        self.server = postgresql_server

    def url(self) -> str:
        return self.server.url_for(options=MODE)


class TestPostgreSQLAdvisoryServer(ServerCases):
    @pytest.fixture(autouse=True)
    def _server(self, own_postgresql: PostgreSQLServer) -> None:
        self.server = own_postgresql

    def url(self) -> str:
        return self.server.url_for(options=MODE)

    def break_connections(self) -> None:
        self.server.sql(OTHERS)


class TestPostgreSQLAdvisoryAfterACrash(RestartCases):
    """Tokens grow over SIGKILL, whatever the server was told about commits."""

    crashes = True

    @pytest.fixture(autouse=True)
    def _server(self, own_postgresql: PostgreSQLServer) -> None:
        self.server = own_postgresql

    def url(self) -> str:
        return self.server.url_for(options=MODE)


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[PostgreSQLServer]:
    """A server whose life these tests command."""
    with PostgreSQLServer(config={"synchronous_commit": "off", "wal_writer_delay": "10s"}) as server:
        yield server
