"""Guards in PostgreSQL's transactions, at each of its isolation levels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from fencecases import GuardCases, guard_in_asyncio
from sqlalchemy.ext.asyncio import create_async_engine

from locksmith.testing.servers import PostgreSQLServer

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(120)]


def url(server: PostgreSQLServer) -> sa.URL:
    return sa.make_url(server.url).set(drivername="postgresql+psycopg")


class TestGuards(GuardCases):
    waiting = """
        SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :table
    """

    @pytest.fixture(params=["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
    def engine(self, request: pytest.FixtureRequest, postgresql_server: PostgreSQLServer) -> Iterator[sa.Engine]:
        made = sa.create_engine(url(postgresql_server), isolation_level=request.param)
        yield made
        made.dispose()


@pytest.mark.native_threads
def test_in_asyncio(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    asyncio.run(guard_in_asyncio(create_async_engine(url(postgresql_server)), namespace))
