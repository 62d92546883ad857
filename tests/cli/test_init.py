"""`locksmith init`: what a store needs is there before its first client, or is printed for who may create it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import locksmith

pytestmark = pytest.mark.native_threads


def tables(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    finally:
        connection.close()


def test_tables_are_created_and_stay(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    url = f"sqlite:///{path}"
    for words in (["init", url], ["init", "--store", url], ["--store", url, "init"]):
        done = cli(*words)
        assert (done.status, done.out) == (0, f"{url} has what locksmith needs (namespace locksmith)\n")
        assert "locksmith_lease" in tables(path)
        with locksmith.connect(url) as client, client.lock("x").acquire() as lease:
            assert client.inspect("x").token == lease.token


def test_each_namespace_has_its_own(cli: Any, tmp_path: Path) -> None:
    assert cli("init", f"sqlite:///{tmp_path}/new.db", "--namespace", "team").status == 0
    assert {name.rpartition("_")[0] for name in tables(tmp_path / "new.db")} == {"team"}


def test_the_statements_are_printed_and_nothing_is_touched(cli: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    done = cli("init", url, "--sql")
    assert done.status == 0
    assert not (tmp_path / "new.db").exists()
    # What is printed is all that a store needs: it finds the tables, and creates none.
    connection = sqlite3.connect(tmp_path / "new.db")
    connection.executescript(done.out)
    before = connection.execute("PRAGMA schema_version").fetchone()
    with locksmith.connect(url) as client, client.lock("x").acquire():
        assert connection.execute("PRAGMA schema_version").fetchone() == before
    connection.close()


def test_printing_needs_no_server(cli: Any) -> None:
    done = cli("init", "--sql", "--json", "--store", "redis://:secret@localhost:1")
    assert done.status == 0
    assert done.last_json == {"store": "redis://***@localhost:1", "created": False, "sql": []}


def test_a_store_that_needs_nothing_says_so(cli: Any) -> None:
    assert cli("init", "memory://").out == "memory:// needs nothing\n"
    assert cli("init", "memory://", "--sql").out == "-- memory:// needs nothing\n"


def test_json(cli: Any, store: str) -> None:
    said = cli("init", store, "--json").last_json
    assert (said["store"], said["created"]) == (store, True)
    assert any("CREATE TABLE" in statement for statement in said["sql"])


def test_nobody_may_write_there(cli: Any) -> None:
    done = cli("init", "sqlite:////proc/locks.db")
    assert (done.status, done.out) == (2, "")
    assert done.error.startswith("error: ")


SERVERS = [
    pytest.param("postgresql_server", marks=pytest.mark.postgresql),
    pytest.param("mariadb_server", marks=pytest.mark.mariadb),
]
TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE '{}%'"
ROUTINES = "SELECT count(*) FROM information_schema.routines WHERE routine_name LIKE '{}%'"


@pytest.mark.parametrize("fixture", SERVERS)
def test_what_is_printed_runs_in_the_servers_own_client(
    cli: Any, request: pytest.FixtureRequest, namespace: str, fixture: str
) -> None:
    """And is all that there is to create: a first client adds nothing to it."""
    server = request.getfixturevalue(fixture)
    done = cli("init", server.url, "--sql", "--namespace", namespace)
    assert done.status == 0
    server.sql(done.out)
    counts = [server.sql(query.format(namespace)) for query in (TABLES, ROUTINES)]
    assert all(int(count) > 0 for count in counts)
    with locksmith.connect(server.url, namespace=namespace) as client, client.lock("x").acquire() as lease:
        assert lease.held
    assert cli("init", server.url, "--namespace", namespace).status == 0
    assert [server.sql(query.format(namespace)) for query in (TABLES, ROUTINES)] == counts
