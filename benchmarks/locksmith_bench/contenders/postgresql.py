"""PostgreSQL: two prepared updates through psycopg as the floor, and advisory locks as the rival.

With `?mode=advisory` the advisory lock is the floor, and what a hand-off is compared with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from locksmith_bench.contenders.base import AsyncPair, Contender, Counter, Give, Goal, Lineup, Pair, Take

TAKE: Final = (
    "UPDATE bench_floor SET owner = %s, expires = clock_timestamp() + interval '30 s'"
    " WHERE name = %s AND expires <= clock_timestamp()"
)
GIVE: Final = "UPDATE bench_floor SET owner = '', expires = '-infinity' WHERE name = %s AND owner = %s"
TABLE: Final = "CREATE TABLE IF NOT EXISTS bench_floor (name text PRIMARY KEY, owner text, expires timestamptz)"
FREE: Final = "INSERT INTO bench_floor VALUES (%s, '', '-infinity') ON CONFLICT DO NOTHING"
NOTIFY: Final = "SELECT pg_notify('bench_floor', '')"
YARDSTICK: Final = "one committed update, one NOTIFY"
ADVISORY: Final = "pg_advisory_lock"


def lineup(url: str) -> Lineup:
    """The floor, and PostgreSQL's own session locks."""
    session = "exclusion while the session lives; no fencing, no ttl"
    if "mode=advisory" in url.partition("?")[2].split("&"):
        return Lineup(
            blocking=[Contender(f"floor: {ADVISORY}", session, _advisory_pair, is_floor=True)],
            aio=[Contender(f"floor: {ADVISORY}", session, _async_advisory_pair, is_floor=True)],
            rivals={ADVISORY: _advisory},
            counter=_counter,
            goal=Goal(handoff=1.5, reference=ADVISORY),
        )
    name, promises = "floor: two prepared updates", "exclusion only"
    return Lineup(
        blocking=[
            Contender(name, promises, _floor, is_floor=True),
            Contender(f"{ADVISORY}, psycopg", session, _advisory_pair),
        ],
        aio=[Contender(name, promises, _async_floor, is_floor=True)],
        rivals={ADVISORY: _advisory},
        yardstick=Contender(YARDSTICK, "nothing", _yardstick),
        call=Contender("floor: a prepared update", "nothing", _call, is_floor=True),
        counter=_counter,
        goal=Goal(pair=1.25, handoff=3.0, reference=YARDSTICK),
    )


def _connect(url: str) -> Any:
    import psycopg

    return psycopg.connect(url.partition("?")[0], autocommit=True)


@contextmanager
def _floor(url: str, name: str) -> Iterator[Pair]:
    with _connect(url) as connection:
        connection.execute(TABLE)
        connection.execute(FREE, (name,))

        def pair() -> None:
            owner = os.urandom(16).hex()
            assert connection.execute(TAKE, (owner, name), prepare=True).rowcount == 1
            assert connection.execute(GIVE, (name, owner), prepare=True).rowcount == 1

        yield pair


@contextmanager
def _call(url: str, name: str) -> Iterator[Pair]:
    with _connect(url) as connection:
        connection.execute(TABLE)
        connection.execute(FREE, (name,))
        connection.execute("SET synchronous_commit = off")  # as for decisions that come faster than one a second

        def call() -> None:
            assert connection.execute(GIVE, (name, ""), prepare=True).rowcount == 1

        yield call


@asynccontextmanager
async def _async_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
    import psycopg

    async with await psycopg.AsyncConnection.connect(url.partition("?")[0], autocommit=True) as connection:
        await connection.execute(TABLE)
        await connection.execute(FREE, (name,))

        async def pair() -> None:
            owner = os.urandom(16).hex()
            assert (await connection.execute(TAKE, (owner, name), prepare=True)).rowcount == 1
            assert (await connection.execute(GIVE, (name, owner), prepare=True)).rowcount == 1

        yield pair


@contextmanager
def _yardstick(url: str, name: str) -> Iterator[Pair]:
    with _connect(url) as connection:
        connection.execute(TABLE)
        connection.execute(FREE, (name,))

        def once() -> None:
            connection.execute(GIVE, (name, ""), prepare=True)
            connection.execute(NOTIFY, prepare=True)

        yield once


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


@contextmanager
def _advisory(url: str, name: str) -> Iterator[Take]:
    key = _key(name)
    with _connect(url) as connection:

        def give() -> object:
            return connection.execute("SELECT pg_advisory_unlock(%s)", (key,), prepare=True).fetchone()

        def take() -> Give:
            connection.execute("SELECT pg_advisory_lock(%s)", (key,), prepare=True)
            return give

        yield take


@contextmanager
def _advisory_pair(url: str, name: str) -> Iterator[Pair]:
    with _advisory(url, name) as take:

        def pair() -> None:
            take()()

        yield pair


@asynccontextmanager
async def _async_advisory_pair(url: str, name: str) -> AsyncIterator[AsyncPair]:
    import psycopg

    key = _key(name)
    async with await psycopg.AsyncConnection.connect(url.partition("?")[0], autocommit=True) as connection:

        async def pair() -> None:
            await connection.execute("SELECT pg_advisory_lock(%s)", (key,), prepare=True)
            await connection.execute("SELECT pg_advisory_unlock(%s)", (key,), prepare=True)

        yield pair


def _counter(url: str) -> Counter:
    connection = _connect(url)

    def ask() -> tuple[int, int]:
        transactions = connection.execute(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        others = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
        return int(transactions[0]), int(others[0])

    return ask
