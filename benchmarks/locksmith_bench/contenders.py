"""Who takes part: locksmith, the floor of each store, and the rivals that can run here.

A contender makes a *pair*: a function that takes one free lock and gives it back. What it guarantees is written beside
its numbers, so that an unfair or unsafe lock does not look better than it is.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

import locksmith
from locksmith.store import Guarantee

Pair: TypeAlias = Callable[[], None]
AsyncPair: TypeAlias = Callable[[], Awaitable[None]]

COMPARE_AND_DELETE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
"""The safe way to give back a SET NX PX: only one's own."""


@dataclass(frozen=True)
class Contender:
    """A name, what it promises, and how to get its pair while the benchmark runs."""

    name: str
    promises: str
    pair: Callable[[str, str], AbstractContextManager[Pair]]
    """(url, lock name) -> pair."""
    is_floor: bool = False


def of(url: str) -> list[Contender]:
    """The blocking contenders for a store, the floor first."""
    scheme = url.partition("://")[0]
    ours = Contender("locksmith", _promises(url), _locksmith)
    if scheme in ("redis", "rediss", "redis+unix"):
        return [
            Contender("floor: SET NX + compare-and-delete", "exclusion only", _redis_floor, is_floor=True),
            ours,
            Contender("redis-py Lock", "exclusion, no queue, no fencing, no renewal", _redis_py_lock),
        ]
    if scheme == "sqlite":
        return [
            Contender("floor: two prepared updates", "exclusion only", _sqlite_floor, is_floor=True),
            ours,
            Contender("bare sqlite3: two prepared updates", "exclusion only", _sqlite3_floor),
        ]
    return [ours]


def rivals_missing() -> dict[str, str]:
    """Rivals that this version does not run, with the reason."""
    known = {"python-redis-lock": "redis_lock", "pottery": "pottery", "sherlock": "sherlock", "filelock": "filelock"}
    return {
        name: "installed, not part of this version" if find_spec(module) else "not installed"
        for name, module in known.items()
    }


def _promises(url: str) -> str:
    with locksmith.connect(url) as client:
        flags = [
            str(flag.name).lower()
            for flag in client.guarantees
            if flag in Guarantee.FENCED | Guarantee.FIFO | Guarantee.PUSH
        ]
    return "exclusion, renewal, loss told, " + ", ".join(flags)


@contextmanager
def _locksmith(url: str, name: str) -> Iterator[Pair]:
    with locksmith.connect(url) as client:
        lock = client.lock(name)

        def pair() -> None:
            lock.acquire().release()

        yield pair


@contextmanager
def _redis_floor(url: str, name: str) -> Iterator[Pair]:
    import redis

    client = redis.Redis.from_url(url.replace("redis+unix://", "unix://"))
    sha = client.script_load(COMPARE_AND_DELETE)
    connection: Any = client.connection_pool.make_connection()
    connection.connect()

    def call(*arguments: object) -> object:
        connection.send_packed_command(connection.pack_command(*arguments))
        return connection.read_response()

    def pair() -> None:
        owner = os.urandom(16).hex()
        assert call("SET", name, owner, "NX", "PX", 30_000)
        assert call("EVALSHA", sha, 1, name, owner)

    try:
        yield pair
    finally:
        connection.disconnect()
        client.close()


@contextmanager
def _redis_py_lock(url: str, name: str) -> Iterator[Pair]:
    import redis

    client = redis.Redis.from_url(url.replace("redis+unix://", "unix://"))

    def pair() -> None:
        lock = client.lock(name, timeout=30)
        lock.acquire()
        lock.release()

    try:
        yield pair
    finally:
        client.close()


TAKE = "UPDATE bench_floor SET owner = ?, expires = ? WHERE name = ? AND expires <= ?"
GIVE = "UPDATE bench_floor SET owner = '', expires = 0 WHERE name = ? AND owner = ?"
TABLE = "CREATE TABLE IF NOT EXISTS bench_floor (name TEXT PRIMARY KEY, owner TEXT, expires REAL)"
FREE = "INSERT OR IGNORE INTO bench_floor VALUES (?, '', 0)"
PRAGMAS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA busy_timeout=5000")


def prepare(run: Callable[..., Any], name: str) -> None:
    """The table of the floor, and a free row of this name in it."""
    for statement in PRAGMAS:
        run(statement).close()
    run(TABLE)
    run(FREE, (name,))


def _two_updates(run: Callable[..., Any], name: str) -> Pair:
    prepare(run, name)

    def pair() -> None:
        owner = os.urandom(16).hex()
        assert run(TAKE, (owner, 30.0, name, 0.0)).rowcount == 1
        assert run(GIVE, (name, owner)).rowcount == 1

    return pair


@contextmanager
def _sqlite_floor(url: str, name: str) -> Iterator[Pair]:
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
