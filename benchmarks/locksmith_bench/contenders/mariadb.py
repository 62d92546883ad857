"""MariaDB and MySQL: two committed updates through the same driver as the floor, and GET_LOCK as the rival."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from locksmith_bench.contenders.base import AsyncPair, Contender, Counter, Give, Goal, Lineup, Pair, Take

TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS bench_floor (name VARCHAR(160) COLLATE ascii_bin PRIMARY KEY,"
    " owner VARCHAR(64) NOT NULL, expires DATETIME(6) NOT NULL) ENGINE=InnoDB"
)
FREE: Final = "INSERT IGNORE INTO bench_floor VALUES (%s, '', '1970-01-02')"
TAKE: Final = (
    "UPDATE bench_floor SET owner = %s, expires = UTC_TIMESTAMP(6) + INTERVAL 30 SECOND"
    " WHERE name = %s AND expires <= UTC_TIMESTAMP(6)"
)
GIVE: Final = "UPDATE bench_floor SET owner = '', expires = '1970-01-02' WHERE name = %s AND owner = %s"
ONCE: Final = "UPDATE bench_floor SET owner = %s WHERE name = %s"
YARDSTICK: Final = "one committed update"
GET_LOCK: Final = "GET_LOCK"


def lineup(url: str) -> Lineup:
    """The floor, and the server's own session locks."""
    name, promises = "floor: two committed updates", "exclusion only"
    session = "exclusion while the session lives; no fencing, no ttl"
    return Lineup(
        blocking=[
            Contender(name, promises, _floor, is_floor=True),
            Contender(f"{GET_LOCK}, PyMySQL", session, _session_pair),
        ],
        aio=[Contender(name, promises, _async_floor, is_floor=True)],
        rivals={GET_LOCK: _session},
        yardstick=Contender(YARDSTICK, "nothing", _yardstick),
        counter=_counter,
        goal=Goal(pair=1.4, handoff=3.0, reference=YARDSTICK),
    )


def _settings(url: str, database: str = "database") -> dict[str, Any]:
    """How to connect. `database`: what the driver calls that parameter."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        database: unquote(parts.path.strip("/")),
        "charset": "utf8mb4",
        "autocommit": True,
    }


@contextmanager
def _cursor(url: str) -> Iterator[Any]:
    import pymysql

    with pymysql.connect(**_settings(url)) as connection:
        yield connection.cursor()


@contextmanager
def _floor(url: str, name: str) -> Iterator[Pair]:
    with _cursor(url) as cursor:
        cursor.execute(TABLE)
        cursor.execute(FREE, (name,))

        def pair() -> None:
            owner = os.urandom(16).hex()
            assert cursor.execute(TAKE, (owner, name)) == 1
            assert cursor.execute(GIVE, (name, owner)) == 1

        yield pair


@asynccontextmanager
async def _async_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
    import aiomysql  # type: ignore[import-untyped]

    connection = await aiomysql.connect(**_settings(url, "db"))
    try:
        async with connection.cursor() as cursor:
            await cursor.execute("SET sql_notes = 0")  # that the table is there already is no warning
            await cursor.execute(TABLE)
            await cursor.execute(FREE, (name,))

            async def pair() -> None:
                owner = os.urandom(16).hex()
                assert await cursor.execute(TAKE, (owner, name)) == 1
                assert await cursor.execute(GIVE, (name, owner)) == 1

            yield pair
    finally:
        await connection.ensure_closed()


@contextmanager
def _yardstick(url: str, name: str) -> Iterator[Pair]:
    with _cursor(url) as cursor:
        cursor.execute(TABLE)
        cursor.execute(FREE, (name,))

        def once() -> None:
            assert cursor.execute(ONCE, (os.urandom(16).hex(), name)) == 1

        yield once


@contextmanager
def _session(url: str, name: str) -> Iterator[Take]:
    with _cursor(url) as cursor:

        def give() -> object:
            return cursor.execute("DO RELEASE_LOCK(%s)", (name,))

        def take() -> Give:
            cursor.execute("SELECT GET_LOCK(%s, 60)", (name,))
            assert cursor.fetchone() == (1,)
            return give

        yield take


@contextmanager
def _session_pair(url: str, name: str) -> Iterator[Pair]:
    with _session(url, name) as take:

        def pair() -> None:
            take()()

        yield pair


def _counter(url: str) -> Counter:
    import pymysql

    connection = pymysql.connect(**_settings(url))
    cursor = connection.cursor()

    def status(name: str) -> int:
        cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
        return int(cursor.fetchone()[1])

    def ask() -> tuple[int, int]:
        # "Questions" are what clients send, without what procedures do inside.
        return status("Questions"), status("Threads_connected") - 1

    return ask
