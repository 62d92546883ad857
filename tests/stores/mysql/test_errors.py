"""Bad weather: what goes wrong is said in locksmith's words, in time, and without secrets."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from locksmith.errors import StoreAuthError, StoreProtocolError, StoreUnavailable
from locksmith.store import Grant
from locksmith.testing.servers import MariaDBServer, RedisServer
from locksmith_sql.mysql.link import checked_version

pytestmark = pytest.mark.mariadb


@contextlib.contextmanager
def somebody(session: Any, rights: str) -> Iterator[str]:
    """A user with these rights on the database."""
    session.execute("CREATE OR REPLACE USER somebody@'%' IDENTIFIED BY 'theirs'")
    session.execute(f"GRANT {rights} ON app.* TO somebody@'%'")
    try:
        yield "somebody"
    finally:
        session.execute("DROP USER somebody@'%'")


def test_a_wrong_password(face: Any, mariadb_server: MariaDBServer, namespace: str, claim: Any) -> None:
    store = face.store(mariadb_server.url_for(password="hunter2"), namespace)
    with pytest.raises(StoreAuthError, match="user and the password") as told:
        face.run(store.acquire(claim(), queue=False))
    assert "hunter2" not in f"{told.value} {told.value.__cause__} {store.address}"


def test_no_such_database(face: Any, mariadb_server: MariaDBServer, namespace: str, claim: Any) -> None:
    store = face.store(mariadb_server.url_for(database="nowhere"), namespace)
    with pytest.raises(StoreProtocolError, match="no such database"):
        face.run(store.acquire(claim(), queue=False))


def test_tables_that_one_may_not_create(
    face: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """`locksmith init` by somebody else, and these four rights, are enough."""
    with somebody(session, "SELECT, INSERT, UPDATE, DELETE, EXECUTE") as name:
        theirs = face.store(mariadb_server.url_for(username=name, password="theirs"), namespace)
        with pytest.raises(StoreAuthError, match="locksmith init"):
            face.run(theirs.acquire(claim(), queue=False))
        face.run(face.store(mariadb_server.url, namespace).create())
        mine = claim()
        grant = face.run(theirs.acquire(mine, queue=False))
        assert isinstance(grant, Grant)
        waiting = face.run(theirs.acquire(claim(), queue=True))
        assert face.run(theirs.release(grant))
        assert isinstance(face.run(theirs.beat([], [waiting], within=5))[0], Grant)
        assert face.run(theirs.put("c", b"x"))


def test_the_statements_are_what_create_runs(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    store = blocking.store(mariadb_server.url, namespace)
    for text in store.ddl():
        session.execute(text)
    assert blocking.run(store.acquire(claim(), queue=False))
    blocking.run(store.create())  # once more does no harm


def test_the_script_is_what_the_mariadb_program_reads(
    blocking: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """`locksmith init --sql URL | mariadb app`, for somebody who may not create anything."""
    store = blocking.store(mariadb_server.url, namespace)
    script = mariadb_server.folder / "init-by-hand.sql"
    script.write_text(store.script(), "utf-8")
    mariadb_server.sql(f"source {script}")
    with somebody(session, "SELECT, INSERT, UPDATE, DELETE, EXECUTE") as name:
        theirs = blocking.store(mariadb_server.url_for(username=name, password="theirs"), namespace)
        grant = blocking.run(theirs.acquire(claim(limit=2), queue=False))
        assert blocking.run(theirs.release(grant))


def test_tables_that_were_dropped(
    face: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """They are created again; an operator who drops them forgets what was in them."""
    store = face.store(mariadb_server.url, namespace)
    assert face.run(store.acquire(claim(), queue=False))
    for word in ("lease", "line", "holder", "tomb", "news", "cell", "meta"):
        session.execute(f"DROP TABLE {namespace}_{word}")
    session.execute(f"DROP PROCEDURE {namespace}_one_v2")
    assert face.run(store.acquire(claim(), queue=False))


def test_tables_of_another_version(
    face: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    face.run(face.store(mariadb_server.url, namespace).create())
    session.execute(f"UPDATE {namespace}_meta SET version = 99")
    with pytest.raises(StoreProtocolError, match="version 99"):
        face.run(face.store(mariadb_server.url, namespace).acquire(claim(), queue=False))


def test_a_read_only_server(start_mariadb: Any, face: Any, namespace: str, claim: Any) -> None:
    server = start_mariadb()
    server.sql("CREATE USER app@'%' IDENTIFIED BY 'theirs'", "GRANT ALL ON app.* TO app@'%'")
    store = face.store(server.url_for(username="app", password="theirs"), namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    server.sql("SET GLOBAL read_only = 1")
    with pytest.raises(StoreUnavailable, match="primary"):
        face.run(store.release(grant))
    findings = face.run(store.diagnose())
    assert any(finding.level == "error" and "read_only" in finding.what for finding in findings)


def test_a_port_where_nobody_listens(face: Any, namespace: str, claim: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = face.store(f"mysql://u:p@127.0.0.1:{taken.getsockname()[1]}/app", namespace)
        with pytest.raises(StoreUnavailable, match="server runs there"):
            face.run(store.acquire(claim(), queue=False))


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x05\x00\x00\x00\xffwhat"])
def test_somebody_else_behind_the_port(face: Any, namespace: str, claim: Any, greeting: bytes) -> None:
    """One that says nothing, one that says something else, one that hardly says anything."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        guests = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    guest, _ = stranger.accept()
                    guests.append(guest)
                    guest.sendall(greeting)

        threading.Thread(target=serve, daemon=True).start()
        store = face.store(f"mysql://u:p@127.0.0.1:{stranger.getsockname()[1]}/app?timeout=1", namespace)
        began = time.monotonic()
        with pytest.raises((StoreUnavailable, StoreProtocolError)):
            face.run(store.acquire(claim(), queue=False))
        assert time.monotonic() - began < 20
        stranger.close()
        for guest in guests:
            guest.close()


@pytest.mark.redis
def test_a_redis_server_behind_the_port(face: Any, redis_server: RedisServer, namespace: str, claim: Any) -> None:
    store = face.store(f"mysql://u:p@127.0.0.1:{redis_server.port}/app?timeout=1", namespace)
    with pytest.raises((StoreUnavailable, StoreProtocolError)):
        face.run(store.acquire(claim(), queue=False))


# aiomysql forgets the socket of a TLS handshake that failed; it is collected here, and not in somebody else's test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls(start_mariadb: Any, face: Any, mariadb_server: MariaDBServer, namespace: str, claim: Any) -> None:
    server = start_mariadb(tls=True)
    assert face.run(face.store(server.url, namespace).acquire(claim(), queue=False))
    host, port = server.address
    bare = f"mysql://tester:{server.password}@{host}:{port}/app"
    off = "?ssl=off" if face.name == "blocking" else ""
    with pytest.raises(StoreAuthError, match="TLS"):
        face.run(face.store(f"{bare}{off}", namespace).acquire(claim(), queue=False))
    with pytest.raises(StoreAuthError, match="TLS options"):
        face.run(face.store(f"{bare}?ssl=required", namespace).acquire(claim(), queue=False))
    with pytest.raises((StoreProtocolError, StoreUnavailable), match="TLS"):
        face.run(face.store(f"{mariadb_server.url}?ssl=required", namespace).acquire(claim(), queue=False))
    gc.collect()


def test_connections_that_were_killed_while_idle(
    face: Any, mariadb_server: MariaDBServer, session: Any, namespace: str, claim: Any
) -> None:
    """wait_timeout does this every night; nobody is told, also where a request may not be sent twice."""
    store = face.store(mariadb_server.url, namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    for _ in range(2):
        session.execute("SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = 'app'")
        for (number,) in session.fetchall():
            with contextlib.suppress(Exception):
                session.execute(f"KILL CONNECTION {number}")
        assert face.run(store.put("c", b"x"))
    assert face.run(store.release(grant))


@pytest.mark.parametrize("said", ["5.5.5-10.4.34-MariaDB", "8.0.18", "5.7.44-log", "what"])
def test_a_server_that_is_too_old(said: str) -> None:
    with pytest.raises(StoreProtocolError, match="too old"):
        checked_version(said)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("10.11.19-MariaDB-0+deb12u1", "MariaDB 10.11.19"),
        ("5.5.5-10.5.8-MariaDB-log", "MariaDB 10.5.8"),
        ("8.0.36", "MySQL 8.0.36"),
        ("9.1.0-commercial", "MySQL 9.1.0"),
    ],
)
def test_a_server_that_is_not(said: str, shown: str) -> None:
    assert checked_version(said) == shown
