"""Guards in InnoDB's transactions, at its isolation levels; REPEATABLE READ is its default."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from fencecases import GuardCases, guard_in_asyncio
from sqlalchemy.ext.asyncio import create_async_engine

from locksmith.testing.servers import MariaDBServer

pytestmark = [pytest.mark.mariadb, pytest.mark.timeout(120)]


class TestGuards(GuardCases):
    # Not innodb_trx: whoever asks that more often than every 0.1 s is shown the same answer again and again.
    waiting = """
        SELECT variable_value FROM information_schema.global_status
        WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS' AND :table <> ''
    """

    @pytest.fixture(params=["REPEATABLE READ", "READ COMMITTED", "SERIALIZABLE"])
    def engine(self, request: pytest.FixtureRequest, mariadb_server: MariaDBServer) -> Iterator[sa.Engine]:
        where = mariadb_server.url_for(scheme="mysql+pymysql")
        made = sa.create_engine(where, isolation_level=request.param)
        yield made
        made.dispose()


@pytest.mark.native_threads
def test_in_asyncio(mariadb_server: MariaDBServer, namespace: str) -> None:
    engine = create_async_engine(mariadb_server.url_for(scheme="mariadb+aiomysql"))
    asyncio.run(guard_in_asyncio(engine, namespace))
