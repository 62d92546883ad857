"""URLs and clients: where the ensemble is, who we are to it, and what is refused."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading

import pytest
from kazoo.client import KazooClient
from kazoo.security import CREATOR_ALL_ACL
from testkit.replies import granted

import locksmith
from locksmith.errors import ConfigurationError, DriverMissing, StoreAuthError, StoreError
from locksmith.testing.servers import RedisServer, ZooKeeperServer
from locksmith.testing.servers.ports import Port
from locksmith_zookeeper import url


def test_hosts_ports_and_chroot() -> None:
    server = url.from_url("zookeeper://a,b:2182,[::1]:2183/apps/one/?timeout=2.5")
    assert server.hosts == (("a", 2181), ("b", 2182), ("::1", 2183))
    assert (server.chroot, server.timeout) == ("/apps/one", 2.5)
    assert server.address == "zookeeper://a:2181,b:2182,[::1]:2183/apps/one"
    assert server.root("x y") == "/apps/one/x~20y"
    assert url.from_url("zookeeper://").hosts == (("localhost", 2181),)


def test_a_user_has_nodes_of_its_own_and_is_not_shown() -> None:
    server = url.from_url("zookeeper://me:p%40ss@h/x")
    assert server.auth == (("digest", "me:p@ss"),)
    assert list(server.acl) == CREATOR_ALL_ACL
    assert "p@ss" not in repr(server)
    assert "me" not in server.address


def test_sasl_and_tls(monkeypatch) -> None:
    wanted = "zookeeper://me:secret@h?sasl_mechanism=DIGEST-MD5&use_ssl=true&verify_certs=false"
    monkeypatch.setattr(url, "find_spec", lambda name: None)
    with pytest.raises(DriverMissing, match="pip install 'pure-sasl"):
        url.from_url(wanted)
    monkeypatch.setattr(url, "find_spec", lambda name: name)
    server = url.from_url(wanted)
    assert server.auth == ()
    assert server.sasl == {"mechanism": "DIGEST-MD5", "username": "me", "password": "secret"}
    assert server.tls == {"use_ssl": True, "verify_certs": False}


@pytest.mark.parametrize(
    "bad",
    [
        "zookeeper://h:port",
        "zookeeper://a,,b",
        "zookeeper://h/../x",
        "zookeeper://h/zookeeper/quota",
        "zookeeper://h?timeout=0",
        "zookeeper://h?timeout=soon",
        "zookeeper://h?tmeout=1",
        "zookeeper://h?use_ssl=maybe",
        "zookeeper://h?use_ssl=true&ca=/no/such/file",
        "zookeeper://h?verify_certs=false",
        "zookeeper://me@h",
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(bad: str) -> None:
    with pytest.raises(ConfigurationError):
        url.from_url(bad)


def test_the_servers_own_nodes_are_no_namespace() -> None:
    with pytest.raises(ConfigurationError, match="another namespace"):
        locksmith.connect("zookeeper://h", namespace="zookeeper")


@pytest.mark.zookeeper
def test_a_client_is_copied_and_stays_as_it_is(face, zookeeper_server, namespace, claim, looker) -> None:
    looker.add_auth("digest", "me:secret")
    store = face.store(looker, namespace)
    grant = granted(face.run(store.acquire(claim(), queue=False)))
    assert face.run(store.release(grant))
    face.run(store.close())
    assert looker.connected
    # Also one that was never started.
    store = face.store(KazooClient(hosts=f"127.0.0.1:{zookeeper_server.port}/app"), namespace)
    grant = granted(face.run(store.acquire(claim(), queue=False)))
    assert grant.state.path.startswith(f"/app/{namespace}/lock/n/")
    assert face.run(store.release(grant))


@pytest.mark.zookeeper
def test_over_tls(face, namespace, claim) -> None:
    with ZooKeeperServer(tls=True) as server:
        store = face.store(server.url, namespace)
        assert face.run(store.release(granted(face.run(store.acquire(claim(), queue=False)))))
        assert [finding.level for finding in face.run(store.diagnose())][:1] == ["ok"]
        plain = face.store(f"zookeeper://127.0.0.1:{server.port}?timeout=1", namespace)
        with pytest.raises(StoreError):
            face.run(plain.acquire(claim(), queue=False))


@pytest.mark.zookeeper
def test_what_is_somebody_elses_is_named(face, zookeeper_server, namespace, claim) -> None:
    """ACLs: nodes made with a password are closed to all others."""
    owner = face.store(zookeeper_server.url_for(f"/{namespace}", user="me:secret"), "ns")
    held = granted(face.run(owner.acquire(claim(), queue=False)))
    face.run(owner.put("c", b"mine"))
    stranger = face.store(zookeeper_server.url_for(f"/{namespace}"), "ns")
    for ask in (
        lambda: stranger.acquire(claim(), queue=False),
        lambda: stranger.acquire(claim("other"), queue=False),
        lambda: stranger.inspect("n"),
        lambda: stranger.get("c"),
        lambda: stranger.put("c", b"theirs"),
        lambda: stranger.put("d", b"theirs"),
        lambda: stranger.delete("c"),
    ):
        with pytest.raises(StoreAuthError, match=f"/{namespace}/ns"):
            face.run(ask())
    assert face.run(owner.release(held))
    assert face.run(owner.delete("c"))


class _Refusing(socketserver.BaseRequestHandler):
    """A server that makes a session, and then does not accept who asks for it."""

    def handle(self) -> None:
        self._read()
        self._write(struct.pack("!iiq", 0, 4000, 7) + struct.pack("!i", 16) + bytes(16) + b"\0")
        self._read()
        self._write(struct.pack("!iqi", -4, 0, -115))

    def _read(self) -> None:
        (length,) = struct.unpack("!i", self.request.recv(4, socket.MSG_WAITALL))
        self.request.recv(length, socket.MSG_WAITALL)

    def _write(self, said: bytes) -> None:
        self.request.sendall(struct.pack("!i", len(said)) + said)


def test_refused_credentials_are_said_to_be_that(face, namespace, claim) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        store = face.store(f"zookeeper://me:secret@127.0.0.1:{server.server_address[1]}?timeout=5", namespace)
        try:
            for _ in range(2):
                with pytest.raises(StoreAuthError) as refused:
                    face.run(store.acquire(claim(ttl=4.0), queue=False))
                assert "secret" not in str(refused.value)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.zookeeper
def test_nobody_there(face, namespace, claim) -> None:
    port = Port()
    store = face.store(f"zookeeper://127.0.0.1:{port.number}?timeout=0.5", namespace)
    with pytest.raises(locksmith.StoreUnavailable, match="could not be reached"):
        face.run(store.acquire(claim(), queue=False))
    port.close()


@pytest.mark.zookeeper
@pytest.mark.redis
def test_somebody_else_there(face, redis_server: RedisServer, namespace, claim) -> None:
    store = face.store(f"zookeeper://127.0.0.1:{redis_server.port}?timeout=1", namespace)
    for _ in range(2):
        with pytest.raises(StoreError):
            face.run(store.acquire(claim(), queue=False))


@pytest.mark.zookeeper
def test_the_doctor(face, zookeeper_server, namespace) -> None:
    said = [
        (finding.level, finding.what) for finding in face.run(face.store(zookeeper_server.url, namespace).diagnose())
    ]
    assert any(level == "warning" and "standalone" in what for level, what in said)
    assert any("0.2 to 120 s" in what for _, what in said)
    with ZooKeeperServer(config={"4lw.commands.whitelist": "ruok"}) as silent:
        found = face.run(face.store(silent.url, namespace).diagnose())
        assert any("4lw.commands.whitelist" in finding.advice for finding in found)
