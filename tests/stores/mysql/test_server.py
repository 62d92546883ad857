"""Other ways to configure a server, and other ways to reach it."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from locksmith import aio, connect
from locksmith.errors import ConfigurationError, DriverMissing
from locksmith.runtime import Blocking
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Grant
from locksmith.testing.servers import MariaDBServer
from locksmith.testing.waiting import eventually_async
from locksmith_sql.mysql import MySQLStore
from locksmith_sql.mysql.url import from_url

pytestmark = pytest.mark.mariadb


def test_names_are_what_they_are_whatever_the_collation(start_mariadb: Any, blocking: Any, claim: Any) -> None:
    """Case, accents and trailing spaces tell names apart, and odd defaults of the server change nothing."""
    server = start_mariadb(
        config={
            "collation-server": "latin1_swedish_ci",
            "character-set-server": "latin1",
            "lower-case-table-names": "1",
            "sql-mode": "ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH",
            "default-time-zone": "+05:30",
            "transaction-isolation": "SERIALIZABLE",
            "wait-timeout": "1",
            "autocommit": "OFF",
        }
    )
    store = blocking.store(server.url, "Odd Space")
    names = ["foo", "Foo", "foo ", "foó", "foo" * 200, "Foo" * 200, 'it\'s \\ "q" `b` %s', "🔒", "\udcff"]
    info = '{"note": "it\'s \\\\ 🔒 %s"}'
    grants = [blocking.run(store.acquire(claim(name, info=info), queue=False)) for name in names]
    assert all(isinstance(grant, Grant) for grant in grants)
    assert set(blocking.run(store.names("")).names) == set(names)
    assert blocking.run(store.inspect("foó")).holders[0].info == info
    assert blocking.run(store.put("cell", bytes(range(256)))) > 0
    cell = blocking.run(store.get("cell"))
    assert cell is not None
    assert cell.value == bytes(range(256))
    for grant in grants:
        assert blocking.run(store.release(grant))


def test_the_doctor_of_a_careless_server(start_mariadb: Any, face: Any, namespace: str) -> None:
    config = {"innodb-flush-log-at-trx-commit": "2", "log-bin": "binlog", "sync-binlog": "0", "max-connections": "10"}
    findings = face.run(face.store(start_mariadb(config=config).url, namespace).diagnose())
    told = [finding.what for finding in findings if finding.level == "warning"]
    assert any("innodb_flush_log_at_trx_commit is 2" in what for what in told)
    assert any("sync_binlog is 0" in what for what in told)


def test_the_doctor_of_a_careful_server(face: Any, mariadb_server: MariaDBServer, namespace: str) -> None:
    findings = face.run(face.store(mariadb_server.url, namespace).diagnose())
    assert {finding.level for finding in findings} == {"ok"}
    assert any(finding.what.startswith("MariaDB 1") for finding in findings)


def engine_url(server: MariaDBServer, driver: str) -> str:
    return server.url.replace("mysql:", f"mysql+{driver}:")


def test_an_engine(mariadb_server: MariaDBServer, namespace: str) -> None:
    engine = sa.create_engine(engine_url(mariadb_server, "pymysql"), pool_size=1, max_overflow=0)
    opened = []
    sa.event.listen(engine, "connect", lambda *_: opened.append(1))
    with connect(engine, namespace=namespace) as client:
        with client.lock("n").acquire():
            assert client.lock("n").try_acquire() is None
        with engine.connect() as connection:  # its pool of one is not used up
            assert connection.scalar(sa.text("SELECT 1")) == 1
    assert opened
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    engine.dispose()


async def _in_line(client: Any) -> bool:
    return bool((await client.inspect("n")).waiters)


def test_an_async_engine(mariadb_server: MariaDBServer, namespace: str) -> None:
    async def main() -> None:
        engine = create_async_engine(engine_url(mariadb_server, "aiomysql"), pool_size=1)
        async with aio.connect(engine, namespace=namespace) as client:
            first = await client.lock("n").acquire()
            waiting = asyncio.ensure_future(client.lock("n").acquire(wait=20))
            await eventually_async(partial(_in_line, client), within=20)
            await first.release()
            assert await (await waiting).release()
        async with engine.connect() as connection:
            assert await connection.scalar(sa.text("SELECT 1")) == 1
        await engine.dispose()

    asyncio.run(main())


def test_engines_of_the_wrong_colour_or_kind(mariadb_server: MariaDBServer) -> None:
    async_engine = create_async_engine(engine_url(mariadb_server, "aiomysql"))
    engine = sa.create_engine(engine_url(mariadb_server, "pymysql"))
    with pytest.raises(ConfigurationError, match="Engine"):
        MySQLStore.from_client(async_engine, runtime=Blocking(), namespace="n")
    with pytest.raises(ConfigurationError, match="AsyncEngine"):
        MySQLStore.from_client(engine, runtime=Asyncio(), namespace="n")
    nowhere = sa.create_engine("mysql+pymysql://u@h")
    with pytest.raises(ConfigurationError, match="database"):
        MySQLStore.from_client(nowhere, runtime=Blocking(), namespace="n")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://h", "names a database"),
        ("mysql://h/d?pool=3", "unknown option 'pool'"),
        ("mysql://h/d?timeout=-1", "timeout"),
        ("mysql://h/d?connections=0", "connections"),
        ("mysql://h/d?ssl=maybe", "required"),
        ("mysql://h/d?ssl=off&ssl_ca=x", "one of them"),
        ("mysql://h/d?ssl_ca=/no/such/file", "cannot be read"),
        ("mysql://h/d?ssl=required&ssl_check_hostname=perhaps", "true or false"),
        ("mysql+aiomysql://h/d", "pymysql"),
        ("mysql+pyodbc://h/d", "pymysql or mysqldb"),
    ],
)
def test_urls_that_cannot_work(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        from_url(url, asynchronous=False)


def test_what_people_see_of_a_url() -> None:
    for url, shown in (
        ("mariadb://me:hunter2@db.example.org/locks", "mysql://db.example.org:3306/locks"),
        ("mysql+pymysql://me:hunter2@[::1]:3307/locks?timeout=2", "mysql://[::1]:3307/locks"),
        ("mysql:///locks?unix_socket=/run/mysqld/mysqld.sock", "mysql:///run/mysqld/mysqld.sock/locks"),
    ):
        server = from_url(url, asynchronous=False)
        assert server.address == shown
    assert from_url("mysql://h/d", asynchronous=True).driver == "aiomysql"
    if find_spec("asyncmy"):
        assert from_url("mysql+asyncmy://h/d", asynchronous=True).driver == "asyncmy"
    else:
        with pytest.raises(DriverMissing, match="asyncmy"):
            from_url("mysql+asyncmy://h/d", asynchronous=True)
