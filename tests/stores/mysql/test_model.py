"""The procedures against the executable specification. Time is a table that the test moves."""

from __future__ import annotations

from typing import Any

import pytest
from testkit.model import MICROS, Pair

from locksmith.testing.servers import MariaDBServer
from locksmith_sql.mysql import procedures

pytestmark = pytest.mark.mariadb

LIMITS = {"a": 1, "b": 1, "c" * 300: 3, "d": 2**20}


class Clock:
    """The server's time, moved by hand."""

    def __init__(self, session: Any, table: str) -> None:
        self._session = session
        self._table = table
        self.micros = 1_700_000_000_000_000
        session.execute(f"CREATE TABLE {table} (micros BIGINT NOT NULL)")
        session.execute(f"INSERT INTO {table} VALUES ({self.micros})")

    def advance(self, seconds: float) -> None:
        self.micros += round(seconds * MICROS)
        self._session.execute(f"UPDATE {self._table} SET micros = {self.micros}")

    def at(self) -> tuple[int, int]:
        return self.micros, self.micros


@pytest.mark.parametrize("seed", range(40))
def test_random_steps_agree_with_the_specification(
    seed: int,
    blocking: Any,
    mariadb_server: MariaDBServer,
    session: Any,
    namespace: str,
    claim: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P1, P2, P5, P7 and the rules of locksmith.store, for locks, semaphores and read-write locks together."""
    monkeypatch.setattr(procedures, "NOW", f"(SELECT micros FROM clock_{namespace})")
    clock = Clock(session, f"clock_{namespace}")
    store = blocking.store(mariadb_server.url, namespace)
    Pair(store, claim, seed=seed, at=clock.at, advance=clock.advance, limits=LIMITS).run(monkeypatch)
