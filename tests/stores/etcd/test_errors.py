"""Refusals and silences of the server, each as the exception that says what to do, without a secret in it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable
from locksmith.store import Claim, Grant, Held, Ticket, Unknown
from locksmith.testing.servers import EtcdServer, EtcdUser
from locksmith_etcd.errors import is_elsewhere, is_old_token, translate

pytestmark = pytest.mark.etcd
Make = Callable[..., Claim]
Start = Callable[..., EtcdServer]
CODE = grpc.StatusCode


class Said(grpc.RpcError):
    """What gRPC raises."""

    def __init__(self, code: Any, details: str) -> None:
        self.code = lambda: code
        self.details = lambda: details


def refused(
    face: Any, store: Any, claim: Claim, kind: type[StoreError] | tuple[type[StoreError], ...], says: str
) -> StoreError:
    """Acquiring raises exactly this kind, with the cause chained and one sentence of advice."""
    with pytest.raises(kind, match=says) as caught:
        face.run(store.acquire(claim, queue=True))
    assert type(caught.value) in (kind if isinstance(kind, tuple) else (kind,))
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert str(caught.value).endswith(".")
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Said(CODE.UNAVAILABLE, "etcdserver: no leader"), StoreUnavailable),
        (Said(CODE.UNAVAILABLE, "etcdserver: leader changed"), StoreUnavailable),
        (Said(CODE.UNAVAILABLE, "etcdserver: request timed out"), StoreUnavailable),
        (Said(CODE.DEADLINE_EXCEEDED, "Deadline Exceeded"), StoreUnavailable),
        (Said(CODE.CANCELLED, "Channel closed!"), StoreUnavailable),
        (Said(CODE.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"), StoreUnavailable),
        (Said(CODE.RESOURCE_EXHAUSTED, "etcdserver: too many requests"), StoreUnavailable),
        (Said(CODE.UNAUTHENTICATED, "etcdserver: invalid auth token"), StoreAuthError),
        (Said(CODE.INVALID_ARGUMENT, "etcdserver: user name is empty"), StoreAuthError),
        (Said(CODE.PERMISSION_DENIED, "etcdserver: permission denied"), StoreAuthError),
        (Said(CODE.UNIMPLEMENTED, "unknown service etcdserverpb.KV"), StoreProtocolError),
        (Said(CODE.UNAVAILABLE, "Trying to connect an http1.x server"), StoreProtocolError),
        (Said(CODE.UNKNOWN, "what is this"), StoreProtocolError),
    ],
)
def test_what_etcd_says_in_our_words(error: Said, kind: type[StoreError]) -> None:
    assert type(translate(error)) is kind


def test_secrets_do_not_pass_through() -> None:
    said = translate(Said(CODE.UNKNOWN, "cannot parse etcd://root:hunter2@h:1"))
    assert "hunter2" not in str(said)


def test_only_unavailable_members_are_left_for_another() -> None:
    assert is_elsewhere(Said(CODE.UNAVAILABLE, "etcdserver: no leader"))
    assert not is_elsewhere(Said(CODE.UNAVAILABLE, "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED"))
    assert not is_elsewhere(Said(CODE.PERMISSION_DENIED, "etcdserver: permission denied"))
    assert is_old_token(Said(CODE.UNAUTHENTICATED, "etcdserver: invalid auth token"))


def test_nobody_listens(face: Any, claim: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    refused(face, face.store(f"etcd://127.0.0.1:{port}", "t"), claim(), StoreUnavailable, "check that the server runs")
    assert time.monotonic() - began < 5.0


@contextmanager
def strange_server(answer: bytes | None) -> Iterator[int]:
    """Accepts connections, and says the same to everybody, or nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    talking: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            talking.append(connection)
            if answer is not None:
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in talking:
            connection.close()


def test_a_silent_server(face: Any, claim: Make) -> None:
    with strange_server(None) as port:
        store = face.store(f"etcd://127.0.0.1:{port}?timeout=0.5", "t")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            face.run(store.acquire(claim(), queue=True))
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n"])
def test_another_kind_of_server(face: Any, claim: Make, answer: bytes) -> None:
    with strange_server(answer) as port:
        store = face.store(f"etcd://127.0.0.1:{port}?timeout=1", "t")
        with pytest.raises(StoreError):
            face.run(store.acquire(claim(), queue=True))


@pytest.fixture(scope="module")
def guarded() -> Iterator[EtcdServer]:
    """A server that asks who is there; ann may use locksmith's keys, bob others."""
    users = {"ann": EtcdUser("p%w:1", "locksmith/"), "bob": EtcdUser("pw", "other/")}
    with EtcdServer(password="secret", users=users) as server:
        yield server


def test_a_user_with_the_role_of_the_docs(face: Any, claim: Make, guarded: EtcdServer, namespace: str) -> None:
    store = face.store(guarded.url_for(username="ann", password="p%w:1"), namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    assert isinstance(grant, Grant)
    ticket = face.run(store.acquire(claim(), queue=True))
    assert isinstance(ticket, Ticket)
    assert isinstance(face.run(store.beat([grant], [ticket], within=5.0))[0], Held)
    assert face.run(store.release(grant))
    assert isinstance(face.news(store, ticket, beats=False), Grant)
    face.run(store.put("c", b"v", ttl=30.0))
    levels = {finding.level for finding in face.run(store.diagnose())}
    assert "error" not in levels
    assert "p%w:1" not in repr(store._channels.cluster) + store.address


def test_a_wrong_password(face: Any, claim: Make, guarded: EtcdServer) -> None:
    store = face.store(guarded.url_for(username="ann", password="hunter2"), "t")
    error = refused(face, store, claim(), StoreAuthError, "correct the username and password")
    assert "hunter2" not in str(error)


def test_no_user_where_one_is_wanted(face: Any, claim: Make, guarded: EtcdServer) -> None:
    store = face.store(f"etcd://{guarded.host}:{guarded.port}", "t")
    refused(face, store, claim(), StoreAuthError, "write etcd://user:password@host")


def test_a_missing_permission(face: Any, claim: Make, guarded: EtcdServer) -> None:
    store = face.store(guarded.url_for(username="bob", password="pw"), "t")
    refused(face, store, claim(), StoreAuthError, "read and write on the prefix locksmith/")
    assert "error" in {finding.level for finding in face.run(store.diagnose())}


def test_a_token_that_the_server_forgot_is_renewed(face: Any, claim: Make, guarded: EtcdServer, namespace: str) -> None:
    store = face.store(guarded.url_for(username="ann", password="p%w:1"), namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    store._channels.token = "forgotten.1"
    assert isinstance(face.run(store.beat([grant], [], within=5.0))[0], Held)
    store._channels.token = "forgotten.2"
    assert face.run(store.release(grant)) is True


def test_a_user_where_nobody_asks(face: Any, claim: Make, etcd_server: EtcdServer, namespace: str) -> None:
    store = face.store(etcd_server.url.replace("etcd://", "etcd://ann:pw@"), namespace)
    assert isinstance(face.run(store.acquire(claim(), queue=False)), Grant)


# TLS.


@pytest.fixture(scope="module")
def secure() -> Iterator[EtcdServer]:
    """A server that speaks TLS and wants a certificate."""
    with EtcdServer(tls=True) as server:
        yield server


def test_tls_with_certificates_of_both_sides(face: Any, claim: Make, secure: EtcdServer, namespace: str) -> None:
    store = face.store(secure.url, namespace)
    grant = face.run(store.acquire(claim(), queue=True))
    assert isinstance(grant, Grant)
    assert face.run(store.release(grant))


def test_tls_that_does_not_fit(face: Any, claim: Make, secure: EtcdServer, etcd_server: EtcdServer) -> None:
    files, place = secure.certificates, f"{secure.host}:{secure.port}"
    options = f"ssl_ca_certs={files.authority}"
    refused(face, face.store(f"etcds://{place}", "t"), claim(), StoreAuthError, "ssl_ca_certs")
    refused(face, face.store(f"etcd://{place}?timeout=1", "t"), claim(), StoreUnavailable, "etcds://")
    plain = f"etcds://{etcd_server.host}:{etcd_server.port}?{options}"
    # What the handshake met, an older grpcio (1.66) does not say: to it the server has hung up.
    kinds = (StoreProtocolError, StoreUnavailable)
    refused(face, face.store(plain, "t"), claim(), kinds, "etcds:// for a server that speaks TLS")
    with pytest.raises(StoreError):  # no certificate: gRPC may learn no more than that it was hung up on
        face.run(face.store(f"etcds://{place}?timeout=1&{options}", "t").acquire(claim(), queue=True))
    elsewhere = f"etcds://{place}?{options}&ssl_certfile={files.client}&ssl_keyfile={files.client_key}"
    refused(face, face.store(f"{elsewhere}&ssl_server_name=other", "t"), claim(), StoreAuthError, "ssl_server_name")


# Weather.


def test_a_full_server_refuses_and_says_so(blocking: Any, claim: Make, start_etcd: Start) -> None:
    server = start_etcd(flags={"quota-backend-bytes": str(16 * 1024 * 1024)})
    store = blocking.store(server.url, "t")
    grant = blocking.run(store.acquire(claim("held"), queue=False))

    def fill() -> None:
        for number in range(400):
            blocking.run(store.put(f"c{number}", b"x" * 65536))

    with pytest.raises(StoreUnavailable, match="NOSPACE"):
        fill()
    with pytest.raises(StoreUnavailable, match="NOSPACE"):
        blocking.run(store.acquire(claim(), queue=False))
    assert blocking.run(store.release(grant)) is True  # giving back needs no room
    assert any("NOSPACE" in finding.what for finding in blocking.run(store.diagnose()))


def test_a_beat_on_a_frozen_server_ends_in_time(face: Any, claim: Make, start_etcd: Start) -> None:
    server = start_etcd()
    store = face.store(server.url, "t")
    grant = face.run(store.acquire(claim(), queue=False))
    server.pause()
    try:
        began = time.monotonic()
        (word,) = face.run(store.beat([grant], [], within=0.5))
        assert isinstance(word, Unknown)
        assert time.monotonic() - began < 3.0
    finally:
        server.resume()
    assert isinstance(face.run(store.beat([grant], [], within=10.0))[0], Held)
