"""SQLite: two prepared updates as the floor, through SQLAlchemy as locksmith does it, and through bare sqlite3."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from locksmith.runtime_asyncio import Asyncio
from locksmith_bench.contenders.base import AsyncPair, Contender, Goal, Lineup, Pair

TAKE: Final = "UPDATE bench_floor SET owner = ?, expires = ? WHERE name = ? AND expires <= ?"
GIVE: Final = "UPDATE bench_floor SET owner = '', expires = 0 WHERE name = ? AND owner = ?"
TABLE: Final = "CREATE TABLE IF NOT EXISTS bench_floor (name TEXT PRIMARY KEY, owner TEXT, expires REAL)"
FREE: Final = "INSERT OR IGNORE INTO bench_floor VALUES (?, '', 0)"
PRAGMAS: Final = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA busy_timeout=5000")


def lineup(url: str) -> Lineup:
    """The floor, and the same without SQLAlchemy."""
    name, promises = "floor: two prepared updates", "exclusion only"
    return Lineup(
        blocking=[
            Contender(name, promises, _floor, is_floor=True),
            Contender("bare sqlite3: two prepared updates", promises, _sqlite3_floor),
        ],
        aio=[Contender(name, promises, _async_floor, is_floor=True)],
        goal=Goal(pair=1.5),
    )


def _prepare(run: Callable[..., Any], name: str) -> None:
    for statement in PRAGMAS:
        run(statement).close()
    run(TABLE)
    run(FREE, (name,))


def _two_updates(run: Callable[..., Any], name: str) -> Pair:
    _prepare(run, name)

    def pair() -> None:
        owner = os.urandom(16).hex()
        assert run(TAKE, (owner, 30.0, name, 0.0)).rowcount == 1
        assert run(GIVE, (name, owner)).rowcount == 1

    return pair


@contextmanager
def _floor(url: str, name: str) -> Iterator[Pair]:
    from sqlalchemy import create_engine

    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield _two_updates(connection.exec_driver_sql, name)
    engine.dispose()


@contextmanager
def _sqlite3_floor(url: str, name: str) -> Iterator[Pair]:
    import sqlite3

    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        yield _two_updates(connection.execute, name)
    finally:
        connection.close()


@asynccontextmanager
async def _async_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
    # SQLite has no asyncio driver: each of the two statements goes through the same kind of thread as locksmith's.
    from sqlalchemy import create_engine

    runtime = Asyncio()
    engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"check_same_thread": False})
    with engine.connect() as connection:
        run = connection.exec_driver_sql
        _prepare(run, name)

        async def pair() -> None:
            owner = os.urandom(16).hex()
            assert await runtime.call(lambda: run(TAKE, (owner, 30.0, name, 0.0)).rowcount) == 1
            assert await runtime.call(lambda: run(GIVE, (name, owner)).rowcount) == 1

        yield pair
    engine.dispose()
    runtime.reset()
