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
    waiting = """
        SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE :table
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
