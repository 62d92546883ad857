"""Agents that are away, silent, strangers or strict: a specific error or a recovery, never a hang or a wrong yes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import locksmith
from locksmith.errors import StoreAuthError, StoreProtocolError, StoreUnavailable
from locksmith.store import Claim, Grant, Held
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import ConsulServer
from locksmith_consul.errors import refused

pytestmark = pytest.mark.consul

Make = Callable[..., Claim]
Start = Callable[..., ConsulServer]
POLICY = """
key_prefix "{namespace}/" {{ policy = "write" }}
session_prefix "" {{ policy = "write" }}
"""


def test_nobody_is_there(face: Any, claim: Make):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StoreUnavailable, match="check that the agent runs"):
        face.run(face.store(f"consul://127.0.0.1:{port}").acquire(claim(), queue=False))


def test_an_agent_that_does_not_answer(face: Any, claim: Make):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"consul://127.0.0.1:{silent.getsockname()[1]}/?timeout=0.3"
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="what became of the request is unknown"):
            face.run(face.store(url).acquire(claim(), queue=False))
        assert time.monotonic() - began < 5


@pytest.fixture(params=[b"-ERR unknown command\r\n", b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope",
                        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"])  # fmt: skip
def stranger(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port where somebody else answers."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(request.param)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_somebody_else_answers(face: Any, claim: Make, stranger: int):
    with pytest.raises(StoreProtocolError, match="agent"):
        face.run(face.store(f"consul://127.0.0.1:{stranger}").acquire(claim(), queue=False))


def test_tls(face: Any, started: Start, claim: Make):
    server = started(tls=True, client_certificates=True)
    store = face.store(server.url)
    grant = face.run(store.acquire(claim(), queue=False))
    assert isinstance(grant, Grant)
    ticket = face.run(store.acquire(claim(), queue=True))
    assert face.run(store.release(grant))
    deadline = time.monotonic() + 10
    while ticket.inbox.peek() is None:
        assert time.monotonic() < deadline
        face.run(store.wait(ticket, 0.5))
    assert isinstance(ticket.inbox.peek(), Grant)


def test_tls_that_does_not_fit(face: Any, started: Start, consul_server: ConsulServer, claim: Make):
    """Each with the one thing to do about it."""
    secure = started(tls=True, client_certificates=True)
    host, port = secure.address
    ca = f"ca={secure.certificates.authority}"
    for url, error, advice in (
        (f"consul://{host}:{port}", StoreProtocolError, "consuls://"),
        (f"consuls://{host}:{port}", StoreAuthError, "TLS options"),
        (f"consuls://{consul_server.host}:{consul_server.port}/?{ca}", StoreProtocolError, "consul://"),
    ):
        with pytest.raises(error, match=advice):
            face.run(face.store(url).acquire(claim(), queue=False))
    with pytest.raises((StoreAuthError, StoreUnavailable)):  # TLS 1.3 tells after the handshake, or just hangs up
        face.run(face.store(f"consuls://{host}:{port}/?{ca}").acquire(claim(), queue=False))


def test_the_policy_of_the_docs_is_enough(face: Any, started: Start, claim: Make, namespace: str):
    server = started(acl=True)
    token = server.make_token(POLICY.format(namespace=namespace))
    store = face.store(server.url_for(token=token), namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    ticket = face.run(store.acquire(claim(), queue=True))
    assert [type(word) for word in face.run(store.beat([grant], [], within=5.0))] == [Held]
    face.run(store.put("c", b"x", ttl=60.0, guard=grant))
    assert face.run(store.get("c")) is not None
    assert (face.run(store.names(""))).names == ["n"]
    assert face.run(store.evict("n", grant.token)) is True
    face.run(store.abandon(ticket.claim, tombstone=True))
    assert face.run(store.delete("c")) is True
    levels = {finding.level for finding in face.run(store.diagnose())}
    assert "error" not in levels


@pytest.mark.parametrize(
    "rules",
    ["", 'key_prefix "" { policy = "write" }', 'session_prefix "" { policy = "write" }',
     'key_prefix "" { policy = "read" } session_prefix "" { policy = "write" }'],
)  # fmt: skip
def test_a_right_that_is_missing_is_named(face: Any, started: Start, claim: Make, rules: str):
    server = started(acl=True)
    store = face.store(server.url_for(token=server.make_token(rules)))
    with pytest.raises(StoreAuthError, match=r"key:write .* session:write"):
        face.run(store.acquire(claim(), queue=False))


def test_a_token_that_nobody_knows(face: Any, started: Start, claim: Make):
    wrong = "11111111-2222-3333-4444-555555555555"
    with pytest.raises(StoreAuthError) as error:
        face.run(face.store(started(acl=True).url_for(token=wrong)).acquire(claim(), queue=False))
    assert wrong not in str(error.value)


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (500, "No cluster leader", StoreUnavailable),
        (500, "rpc error making call: rpc error making call: Permission denied", StoreAuthError),
        (500, "rpc error: ACL not found", StoreAuthError),
        (429, "Your IP is issuing too many concurrent connections", StoreUnavailable),
        (403, "Permission denied: token with AccessorID 'x' lacks permission 'key:write'", StoreAuthError),
        (401, "ACL support disabled", StoreAuthError),
        (500, "No path to datacenter", StoreProtocolError),
        (404, "page not found", StoreProtocolError),
        (502, "<html>bad gateway</html>", StoreUnavailable),
    ],
)
def test_what_refusals_mean(code: int, body: str, kind: type[Exception]) -> None:
    assert type(refused(code, body)) is kind


def test_too_many_connections(face: Any, started: Start, claim: Make):
    """`limits.http_max_conns_per_client`: said as such, and over when somebody hangs up."""
    server = started(config={"limits": {"http_max_conns_per_client": 3}})
    taken = [socket.create_connection(server.address) for _ in range(3)]
    try:
        with pytest.raises(StoreUnavailable):
            face.run(face.store(f"{server.url}/?timeout=1").acquire(claim(), queue=False))
    finally:
        for connection in taken:
            connection.close()


def test_a_lost_reply_takes_the_name_once(face: Any, consul_server: ConsulServer, proxy: Proxy, claim: Make, namespace):
    """P6: the transaction ran, its reply was lost, it is sent again: the same key, the same token."""
    store = face.store(proxy.through(consul_server.url), namespace)
    face.run(store.release(face.run(store.acquire(claim("warm"), queue=False))))
    for verb in (b'"lock"', b'"delete"'):
        fault = proxy.lose_reply(matching=verb)
        wanted = claim()
        grant = face.run(store.acquire(wanted, queue=False))
        assert isinstance(grant, Grant)
        assert len(face.run(store.inspect("n")).holders) == 1
        assert face.run(store.release(grant)) is True
        assert fault.fired.is_set() if hasattr(fault.fired, "is_set") else fault.fired


def test_a_lost_reply_writes_a_cell_once(face: Any, consul_server: ConsulServer, proxy: Proxy, namespace: str):
    store = face.store(proxy.through(consul_server.url), namespace)
    first = face.run(store.put("c", b"1"))
    proxy.lose_reply(matching=b'"set"')
    second = face.run(store.put("c", b"2", expect=first))
    assert face.run(store.get("c")).version == second > first


def test_a_black_hole_while_it_holds_and_waits(consul_server: ConsulServer, proxy: Proxy, namespace: str):
    """Complaint: Consul's own client notices a partition that drops packets after minutes. Here: within the lease."""
    url = f"{proxy.through(consul_server.url)}/?timeout=1"
    with locksmith.connect(url, namespace=namespace, ttl=2.0) as client:
        lease = client.lock("held").acquire()
        with locksmith.connect(consul_server.url, namespace=namespace) as other:
            theirs = other.lock("n").acquire()
            waiting = threading.Thread(target=lambda: client.lock("n").acquire(wait=30).release(), daemon=True)
            waiting.start()
            while len(other.inspect("n").waiters) != 1:
                time.sleep(0.01)
            proxy.black_hole()
            assert lease.lost.wait(5.0)
            assert not lease.held
            proxy.heal()
            assert theirs.release()
        waiting.join(20)
        assert not waiting.is_alive()
        assert client.lock("n").try_acquire().release()


def test_a_restart_while_somebody_waits(started: Start, namespace: str):
    """The place in line is on disk, and the turn comes."""
    server = started(session_ttl_min=0.2)
    with (
        locksmith.connect(server.url, namespace=namespace, ttl=20.0) as client,
        locksmith.connect(server.url, namespace=namespace, ttl=20.0) as other,
    ):
        theirs = other.lock("n").acquire()
        got: list[Any] = []
        waiting = threading.Thread(target=lambda: got.append(client.lock("n").acquire(wait=40)), daemon=True)
        waiting.start()
        while len(other.inspect("n").waiters) != 1:
            time.sleep(0.01)
        server.restart()
        assert theirs.held
        assert theirs.release()
        waiting.join(30)
        assert got[0].token > theirs.token
        assert got[0].release()


def test_waiting_for_many_names_takes_one_thread(consul_server: ConsulServer, namespace: str):
    """A connection for each name, and one thread for all of them."""
    with (
        locksmith.connect(consul_server.url, namespace=namespace) as client,
        locksmith.connect(consul_server.url, namespace=namespace) as other,
    ):
        names = [f"n{number}" for number in range(12)]
        held = [other.lock(name).acquire() for name in names]
        before = threading.active_count()
        threads = [
            threading.Thread(target=lambda name=name: client.lock(name).acquire(wait=30).release())
            for name in names * 2
        ]
        for thread in threads:
            thread.start()
        for name in names:
            while len(other.inspect(name).waiters) != 2:
                time.sleep(0.01)
        assert threading.active_count() - before <= len(threads) + 2  # a hub and a keeper
        for lease in held:
            assert lease.release()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()


def test_a_lease_lost_in_silence_ends_although_its_session_lives(started: Start, namespace: str):
    """P8: the server keeps a session for longer than we believe in it, and other leases of its ttl keep it alive."""
    server = started(session_ttl_min=0.5)
    with Proxy(server.address) as proxy:
        url = f"{proxy.through(server.url)}/?timeout=0.5"
        with locksmith.connect(url, namespace=namespace, ttl=6.0) as client:
            lease = client.lock("a").acquire(wait=5)
            proxy.black_hole()
            assert lease.lost.wait(30)
            proxy.heal()
            with client.lock("b").acquire(wait=20):
                client.lock("a").acquire(wait=60).release()
