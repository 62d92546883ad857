"""Clients that the user has: engines of both colours, and psycopg's connections. They stay open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from locksmith import aio, connect
from locksmith.errors import ConfigurationError, StoreAuthError, StoreUnavailable
from locksmith.testing.servers import PostgreSQLServer
from locksmith.testing.waiting import eventually_async

pytestmark = pytest.mark.postgresql


@pytest.fixture
def engine(postgresql_server: PostgreSQLServer) -> Iterator[sa.Engine]:
    made = sa.create_engine(postgresql_server.url.replace("postgresql:", "postgresql+psycopg:"), pool_size=1)
    yield made
    made.dispose()


def use(client: Any) -> None:
    held = client.lock("n").acquire()
    assert client.lock("n").try_acquire() is None
    assert held.release()


def test_an_engine(engine: sa.Engine, namespace: str) -> None:
    opened = []
    sa.event.listen(engine, "connect", lambda *_: opened.append(1))
    with connect(engine, namespace=namespace) as client:
        use(client)
        # Its pool of one is not used up.
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
    assert opened, "connections are made by the engine, with its settings and events"
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1


def test_an_engine_under_asyncio(engine: sa.Engine, namespace: str) -> None:
    async def main() -> None:
        async with aio.connect(engine, namespace=namespace) as client, client.lock("n").acquire() as lease:
            assert lease.held
            assert await client.lock("n").try_acquire() is None

    asyncio.run(main())


def test_an_async_engine(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    async def main() -> None:
        engine = create_async_engine(postgresql_server.url.replace("postgresql:", "postgresql+psycopg:"), pool_size=1)
        async with aio.connect(engine, namespace=namespace) as client:
            first = await client.lock("n").acquire()
            waiting = asyncio.ensure_future(client.lock("n").acquire(wait=20))
            await eventually_async(lambda: _waiters(client))
            await first.release()
            assert await (await waiting).release()
        async with engine.connect() as connection:
            assert await connection.scalar(sa.text("SELECT 1")) == 1
        await engine.dispose()

    asyncio.run(main())


async def _waiters(client: aio.AsyncClient) -> bool:
    return bool((await client.inspect("n")).waiters)


def test_an_async_engine_is_for_asyncio(postgresql_server: PostgreSQLServer) -> None:
    engine = create_async_engine(postgresql_server.url.replace("postgresql:", "postgresql+psycopg:"))
    with pytest.raises(ConfigurationError, match="takes an Engine"):
        connect(engine)


def test_an_engine_that_cannot_connect(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    url = postgresql_server.url_for(password="wrong").replace("postgresql:", "postgresql+psycopg:")
    with connect(sa.create_engine(url), namespace=namespace) as client, pytest.raises(StoreAuthError):
        client.lock("n").acquire()


def test_a_psycopg_connection(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    with psycopg.connect(postgresql_server.url) as connection:
        with connect(connection, namespace=namespace) as client:
            use(client)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_async_psycopg_connection(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(postgresql_server.url) as connection:
            async with aio.connect(connection, namespace=namespace) as client, client.lock("n").acquire():
                pass
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)

    asyncio.run(main())


def test_other_engines_find_their_own_store(tmp_path: Any, namespace: str) -> None:
    with connect(sa.create_engine(f"sqlite:///{tmp_path}/l.db"), namespace=namespace) as client:
        use(client)
    engine = sa.create_mock_engine("mssql+pyodbc://", lambda *_: None)
    with pytest.raises(ConfigurationError, match="no store for mssql"):
        connect(engine, namespace=namespace)


def test_many_threads_share_few_connections(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = postgresql_server.url_for(options={"connections": "2", "application_name": namespace})
    with connect(url, namespace=namespace) as client, ThreadPoolExecutor(16) as pool:
        tokens = list(pool.map(lambda at: client.lock(f"n{at % 16}").acquire().token, range(16)))
        assert len(set(tokens)) > 1
        count = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{namespace}'"
        assert int(postgresql_server.sql(count)) <= 3


def test_a_server_that_hangs_up_on_idle_connections(postgresql_server: PostgreSQLServer, namespace: str) -> None:
    """libpq closes its descriptor, and its number is that of another client's connection when the loop is told."""

    async def main() -> None:
        url = postgresql_server.url_for(options={"application_name": namespace})
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{namespace}'"
        async with aio.connect(url, namespace=namespace) as one, aio.connect(url, namespace=namespace) as other:
            for _ in range(5):
                leases = await asyncio.gather(*(one.lock(f"n{at}").acquire() for at in range(4)))
                others = await asyncio.gather(*(other.lock(f"o{at}").acquire() for at in range(4)))
                await asyncio.to_thread(postgresql_server.sql, ended)
                await asyncio.sleep(0.05)
                # Theirs are dead and idle while ours are opened anew, and thrown away while ours are in use.
                await asyncio.gather(*(lease.release() for lease in others))
                await asyncio.gather(*(lease.release() for lease in leases))
                await asyncio.gather(*(other.inspect(f"o{at}") for at in range(4)))

    asyncio.run(main())


def test_unavailable_is_not_no(namespace: str) -> None:
    with connect("postgresql://u@127.0.0.1:1/d", namespace=namespace) as client, pytest.raises(StoreUnavailable):
        client.lock("n").try_acquire()
