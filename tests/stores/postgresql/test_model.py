"""PL/pgSQL against the executable specification. Time is a table that the test moves."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from testkit.model import MICROS, Pair

from locksmith.testing.servers import PostgreSQLServer
from locksmith_sql.postgresql import statements

pytestmark = pytest.mark.postgresql

LIMITS = {"a": 1, "b": 1, "c" * 300: 3, "d": 2**20}


class Clock:
    """The server's time, moved by hand."""

    def __init__(self, connection: psycopg.Connection[Any], table: str) -> None:
        self._connection = connection
        self._table = table
        self.micros = 1_700_000_000_000_000
        connection.execute(f"CREATE TABLE {table} AS SELECT {self.micros}::bigint AS micros")

    def advance(self, seconds: float) -> None:
        self.micros += round(seconds * MICROS)
        self._connection.execute(f"UPDATE {self._table} SET micros = {self.micros}")

    def at(self) -> tuple[int, int]:
        return self.micros, self.micros


@pytest.mark.parametrize("seed", range(40))
def test_random_steps_agree_with_the_specification(
    seed: int,
    blocking: Any,
    postgresql_server: PostgreSQLServer,
    namespace: str,
    claim: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P1, P2, P5, P7 and the rules of locksmith.store, for locks, semaphores and read-write locks together."""
    monkeypatch.setattr(statements, "CLOCK", f"(SELECT micros FROM clock_{namespace})")
    with psycopg.connect(postgresql_server.url, autocommit=True) as connection:
        clock = Clock(connection, f"clock_{namespace}")
        store = blocking.store(postgresql_server.url, namespace)
        Pair(store, claim, seed=seed, at=clock.at, advance=clock.advance, limits=LIMITS).run(monkeypatch)
