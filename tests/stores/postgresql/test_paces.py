"""The function that paces, against the algorithm; and the forgetting of what nobody asks for."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from testkit.paces import agree

from locksmith.pacing import parse
from locksmith.runtime import drive
from locksmith.testing.servers import PostgreSQLServer
from locksmith_sql.postgresql import statements

pytestmark = pytest.mark.postgresql


@pytest.mark.parametrize("seed", range(8))
def test_random_steps_agree_with_the_algorithm(
    seed: int, blocking: Any, postgresql_server: PostgreSQLServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that the test moves, also back."""
    monkeypatch.setattr(statements, "CLOCK", f"(SELECT micros FROM clock_{namespace})")
    micros = 1_700_000_000_000_000
    with psycopg.connect(postgresql_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE clock_{namespace} AS SELECT {micros}::bigint AS micros")

        def advance(seconds: float) -> None:
            nonlocal micros
            micros += round(seconds * 1e6)
            connection.execute(f"UPDATE clock_{namespace} SET micros = {micros}")

        agree(blocking.store(postgresql_server.url, namespace), lambda: micros, advance, seed)


def test_what_is_not_asked_for_any_more_is_swept(
    blocking: Any, postgresql_server: PostgreSQLServer, namespace: str
) -> None:
    """Also where a client only paces, and so never beats."""
    store = blocking.store(postgresql_server.url, namespace)
    with psycopg.connect(postgresql_server.url, autocommit=True) as connection:
        for key in ("old", "new"):
            drive(store.pace(key, parse(["70/s"]), 1, at_most=0.0))
        connection.execute(f"UPDATE {namespace}_pace SET sweep_at = 1 WHERE key = 'old'")
        connection.execute(f"UPDATE {namespace}_meta SET sweep_at = 0")
        store._swept_at -= 60
        drive(store.pace("new", parse(["70/s"]), 1, at_most=1.0))
        assert connection.execute(f"SELECT key FROM {namespace}_pace").fetchall() == [("new",)]


def test_decisions_leave_the_indexes_alone(blocking: Any, postgresql_server: PostgreSQLServer, namespace: str) -> None:
    """Which is what makes them cheap: new versions of a row stay on its page (HOT)."""
    store = blocking.store(postgresql_server.url, namespace)
    with psycopg.connect(postgresql_server.url, autocommit=True) as connection:
        drive(store.pace("k", parse(["1000/s"]), 1, at_most=1.0))
        places = set()
        for _ in range(20):
            drive(store.pace("k", parse(["1000/s"]), 1, at_most=1.0))
            (place,) = connection.execute(f"SELECT (ctid::text::point)[0] FROM {namespace}_pace").fetchall()
            places.add(place)
    assert places == {(0.0,)}
