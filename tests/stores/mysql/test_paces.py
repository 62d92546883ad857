"""The procedure that paces, against the algorithm; and the forgetting of what nobody asks for."""

from __future__ import annotations

from typing import Any

import pytest
from testkit.paces import agree

from locksmith.pacing import parse
from locksmith.runtime import drive
from locksmith.testing.servers import MariaDBServer
from locksmith_sql.mysql import procedures

pytestmark = pytest.mark.mariadb


@pytest.mark.parametrize("seed", range(8))
def test_random_steps_agree_with_the_algorithm(
    seed: int,
    blocking: Any,
    mariadb_server: MariaDBServer,
    session: Any,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a clock that the test moves, also back."""
    monkeypatch.setattr(procedures, "NOW", f"(SELECT micros FROM clock_{namespace})")
    micros = 1_700_000_000_000_000
    session.execute(f"CREATE TABLE clock_{namespace} (micros BIGINT NOT NULL)")
    session.execute(f"INSERT INTO clock_{namespace} VALUES ({micros})")

    def advance(seconds: float) -> None:
        nonlocal micros
        micros += round(seconds * 1e6)
        session.execute(f"UPDATE clock_{namespace} SET micros = {micros}")

    agree(blocking.store(mariadb_server.url, namespace), lambda: micros, advance, seed)


def test_what_is_not_asked_for_any_more_is_swept(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str
) -> None:
    """Also where a client only paces, and so never beats."""
    store = blocking.store(mariadb_server.url, namespace)
    for key in ("old", "new"):
        drive(store.pace(key, parse(["70/s"]), 1, at_most=0.0))
    session.execute(f"UPDATE {namespace}_pace SET sweep_at = 1 WHERE `key` = 'old'")
    session.execute(f"UPDATE {namespace}_meta SET sweep_at = 0")
    store._swept_at -= 60
    drive(store.pace("new", parse(["70/s"]), 1, at_most=1.0))
    session.execute(f"SELECT `key` FROM {namespace}_pace")
    assert session.fetchall() == (("new",),)
