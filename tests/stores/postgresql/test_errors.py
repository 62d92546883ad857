"""Bad weather: each trouble is a specific error with advice, or a recovery; never a hang, and no secret is shown."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest

from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable
from locksmith.store import Grant
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import PostgreSQLServer

pytestmark = pytest.mark.postgresql

SECRET = "hunter2-is-secret"


def fails(face: Any, url: str, namespace: str, kind: type[StoreError], *words: str) -> str:
    """Acquiring at this URL fails like this, within moments."""
    store = face.store(url, namespace)
    with pytest.raises(kind) as raised:
        face.run(store.get("c"))
    said = str(raised.value)
    assert all(word in said for word in words), said
    shown = ""
    error: BaseException | None = raised.value
    while error is not None:
        shown += f"{error!r} {error}"
        error = error.__cause__ or error.__context__
    assert SECRET not in shown
    return said


def test_a_wrong_password(face: Any, postgresql_server: PostgreSQLServer, namespace: str) -> None:
    url = postgresql_server.url_for(password=SECRET)
    fails(face, url, namespace, StoreAuthError, "password authentication failed", "correct user and password")


def test_a_user_that_does_not_exist(face: Any, postgresql_server: PostgreSQLServer, namespace: str) -> None:
    url = postgresql_server.url_for(username="nobody-here", password=SECRET)
    fails(face, url, namespace, StoreAuthError)


def test_a_database_that_does_not_exist(face: Any, postgresql_server: PostgreSQLServer, namespace: str) -> None:
    fails(face, postgresql_server.url_for(database="nowhere"), namespace, StoreAuthError, "no such database")


@pytest.fixture
def mortal(postgresql_server: PostgreSQLServer, namespace: str) -> str:
    """A URL for a user who may create nothing."""
    name = f"mortal_{namespace}"
    postgresql_server.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    return postgresql_server.url_for(username=name, password=SECRET)


def test_no_right_to_create_tables(face: Any, mortal: str, namespace: str) -> None:
    fails(face, mortal, namespace, StoreAuthError, "locksmith init", "--sql")


def test_what_init_creates_serves_a_user_who_may_create_nothing(
    face: Any, mortal: str, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    owner = face.store(postgresql_server.url, namespace)
    face.run(owner.create())
    face.run(owner.create())  # safe to repeat
    assert any("CREATE TABLE" in text for text in owner.ddl())
    fails(face, mortal, namespace, StoreAuthError, "permission denied", "grant")
    name = mortal.split("//")[1].split(":")[0]
    postgresql_server.sql(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
    )
    store = face.store(mortal, namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    assert isinstance(grant, Grant)
    assert face.run(store.release(grant))


def test_the_printed_statements_create_everything(
    face: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    store = face.store(postgresql_server.url, namespace)
    postgresql_server.sql(*store.ddl())
    assert isinstance(face.run(store.acquire(claim(), queue=False)), Grant)


def test_tables_that_are_dropped_come_back(
    face: Any, store: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    first = face.run(store.acquire(claim(), queue=False))
    postgresql_server.sql(f"DROP TABLE {namespace}_lease CASCADE")
    again = face.run(store.acquire(claim(), queue=False))
    assert again.token > first.token


def test_tables_of_another_version(face: Any, store: Any, postgresql_server: PostgreSQLServer, namespace: str) -> None:
    face.run(store.get("c"))
    postgresql_server.sql(f"UPDATE {namespace}_meta SET version = 99")
    fails(face, postgresql_server.url, namespace, StoreProtocolError, "version 99")


def test_tables_of_somebody_else(face: Any, postgresql_server: PostgreSQLServer, namespace: str) -> None:
    postgresql_server.sql(f"CREATE TABLE {namespace}_meta (something text)")
    fails(face, postgresql_server.url, namespace, StoreProtocolError)


def test_a_standby_only_reads(
    face: Any, start_postgresql: Callable[..., PostgreSQLServer], namespace: str, claim: Any
) -> None:
    primary = start_postgresql()
    store = face.store(primary.url, namespace)
    version = face.run(store.put("c", b"x"))
    standby = start_postgresql(follows=primary)
    reader = face.store(standby.url, namespace)
    cell = face.run(reader.get("c"))
    assert cell is not None
    assert cell.version == version
    with pytest.raises(StoreUnavailable, match="connect to the primary"):
        face.run(reader.acquire(claim(), queue=False))
    assert any(finding.level == "error" for finding in face.run(reader.diagnose()))


class Impostor:
    """Something that listens and is no PostgreSQL."""

    def __init__(self, answer: bytes | None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._answer = answer
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                self._kept.append(client)
                if self._answer is not None:
                    client.recv(1000)
                    client.sendall(self._answer)
                    client.close()

    def close(self) -> None:
        self._socket.close()
        for client in self._kept:
            client.close()


@pytest.fixture
def impostor() -> Iterator[Callable[[bytes | None], Impostor]]:
    made: list[Impostor] = []

    def make(answer: bytes | None) -> Impostor:
        made.append(Impostor(answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n"])
def test_another_kind_of_server(face: Any, impostor: Any, namespace: str, answer: bytes) -> None:
    fails(face, f"postgresql://u:{SECRET}@127.0.0.1:{impostor(answer).port}/d", namespace, StoreError)


def test_nobody_listens(face: Any, namespace: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    fails(face, f"postgresql://u:{SECRET}@127.0.0.1:{port}/d", namespace, StoreUnavailable, "refused")


def test_a_server_that_never_answers(face: Any, impostor: Any, namespace: str) -> None:
    began = time.monotonic()
    url = f"postgresql://u:{SECRET}@127.0.0.1:{impostor(None).port}/d?timeout=0.3"
    fails(face, url, namespace, StoreUnavailable, "no answer in time")
    assert time.monotonic() - began < 5


def test_a_host_that_does_not_exist(face: Any, namespace: str) -> None:
    fails(face, f"postgresql://u:{SECRET}@no-such-host.invalid/d", namespace, StoreUnavailable)


def test_the_second_host_is_tried(
    face: Any, postgresql_server: PostgreSQLServer, impostor: Any, namespace: str
) -> None:
    host, port = postgresql_server.address
    silent = impostor(None).port
    url = (
        postgresql_server.url.replace(f"@{host}:{port}/", "@/")
        + f"?host=127.0.0.1:{silent}&host={host}:{port}&timeout=4"
    )
    store = face.store(url, namespace)
    assert face.run(store.get("c")) is None


def test_tls(face: Any, start_postgresql: Callable[..., PostgreSQLServer], namespace: str, claim: Any) -> None:
    server = start_postgresql(tls=True)
    store = face.store(server.url, namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    ticket = face.run(store.acquire(claim(), queue=True))
    assert face.run(store.release(grant))
    face.run(store.wait(ticket, 10))
    assert isinstance(ticket.inbox.peek(), Grant)
    fails(face, server.url_for(options={"sslmode": "disable"}), namespace, StoreAuthError)
    fails(
        face, server.url_for(options={"sslrootcert": "/nonexistent/ca.pem"}), namespace, StoreAuthError, "TLS options"
    )


def test_tls_with_a_server_that_has_none(face: Any, postgresql_server: PostgreSQLServer, namespace: str) -> None:
    fails(face, postgresql_server.url_for(options={"sslmode": "require"}), namespace, StoreAuthError, "SSL")


def test_no_connection_left(face: Any, start_postgresql: Callable[..., PostgreSQLServer], namespace: str) -> None:
    server = start_postgresql(config={"max_connections": "5", "superuser_reserved_connections": "0"})
    taken: list[psycopg.Connection[Any]] = []
    with suppress(psycopg.OperationalError):
        while len(taken) < 10:
            taken += [psycopg.connect(server.url)]
    try:
        fails(face, server.url, namespace, StoreUnavailable, "max_connections")
    finally:
        for connection in taken:
            connection.close()


def test_a_lock_on_our_tables_ends_in_time(
    face: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    """Somebody else's transaction is in the way: the request fails in time, and the next one after it works."""
    store = face.store(postgresql_server.url_for(options={"timeout": "0.5"}), namespace)
    mine = claim()
    grant = face.run(store.acquire(mine, queue=False))
    with psycopg.connect(postgresql_server.url) as connection:
        connection.execute(f"LOCK TABLE {namespace}_lease")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            face.run(store.acquire(claim(), queue=False))
        assert time.monotonic() - began < 10
    assert face.run(store.release(grant))


def test_a_network_that_swallows_everything(
    face: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    """P9: no answer and no end of the connection either; afterwards a new connection is made."""
    with Proxy(postgresql_server.address) as proxy:
        url = postgresql_server.url_for(address=proxy.address, options={"timeout": "0.5"})
        store = face.store(url, namespace)
        grant = face.run(store.acquire(claim(), queue=False))
        proxy.black_hole()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            face.run(store.release(grant))
        (word,) = [type(word) for word in _beat(face, store, grant)]
        assert word is StoreUnavailable
        assert time.monotonic() - began < 10
        proxy.heal()
        assert face.run(store.release(grant)) in {True, False}
        assert isinstance(face.run(store.acquire(claim(), queue=False)), Grant)


def _beat(face: Any, store: Any, grant: Grant) -> list[Any]:
    try:
        return list(face.run(store.beat([grant], [], within=0.3)))
    except StoreUnavailable as error:
        return [error]
