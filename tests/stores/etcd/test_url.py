"""URLs, and channels that belong to the user."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

import locksmith
from locksmith.errors import ConfigurationError, StoreError, StoreUnavailable
from locksmith.runtime import Blocking
from locksmith.store import Claim, Grant, Ticket
from locksmith.testing.servers import EtcdServer
from locksmith_etcd import EtcdStore
from locksmith_etcd.url import from_url

Make = Callable[..., Claim]


def test_members_ports_and_users() -> None:
    cluster = from_url("etcd://ann:p%40ss@h1,h2:4001,[::1]?timeout=2.5")
    assert cluster.members == ("h1:2379", "h2:4001", "[::1]:2379")
    assert (cluster.username, cluster.password, cluster.timeout, cluster.tls) == ("ann", "p@ss", 2.5, None)
    assert cluster.address == "etcd://h1:2379,h2:4001,[::1]:2379"
    assert "p@ss" not in repr(cluster)
    assert from_url("etcds://h").tls == {}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("etcd://", "write etcd://host1"),
        ("etcd://h1,,h2", "write etcd://host1"),
        ("etcd://h:port", "write etcd://host1"),
        ("etcd://h/0", "no path"),
        ("etcd://h?db=1", "unknown option"),
        ("etcd://h?timeout=0", "positive number"),
        ("etcd://h?timeout=soon", "positive number"),
        ("etcd://h?timeout=1&timeout=2", "twice"),
        ("etcd://h?ssl_ca_certs=x", "write etcds://"),
        ("etcds://h?ssl_ca_certs=/no/such/file", "No such file"),
        ("etcd://:pw@h", "users by name"),
    ],
)
def test_bad_urls_say_what_to_write(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as error:
        EtcdStore.from_url(url, runtime=Blocking(), namespace="")
    assert "pw" not in str(error.value)


def channels_of(face: Any, server: EtcdServer) -> list[Any]:
    """A channel of each kind that this face takes."""

    async def open_native() -> Any:
        return grpc.aio.insecure_channel(f"{server.host}:{server.port}")

    blocking = grpc.insecure_channel(f"{server.host}:{server.port}")
    return [blocking, face.run(open_native())] if face.name == "asyncio" else [blocking]


@pytest.mark.etcd
def test_a_channel_of_the_users_is_used_and_stays_open(
    face: Any, claim: Make, etcd_server: EtcdServer, namespace: str
) -> None:
    for channel in channels_of(face, etcd_server):
        store = face.store(channel, namespace)
        grant = face.run(store.acquire(claim(), queue=False))
        ticket = face.run(store.acquire(claim(), queue=True))
        assert isinstance(ticket, Ticket)
        assert face.run(store.release(grant)) is True
        theirs = face.news(store, ticket, beats=False)
        assert isinstance(theirs, Grant)
        assert face.run(store.release(theirs)) is True
        face.run(store.close())
        again = face.store(channel, namespace)
        assert face.run(again.release(face.run(again.acquire(claim(), queue=False)))) is True
        face.run(again.close())
        closed = channel.close()
        if hasattr(closed, "__await__"):
            face.run(_settled(closed))


@pytest.mark.etcd
def test_a_channel_that_its_owner_closes_is_store_unavailable_and_waiters_are_told(
    face: Any, claim: Make, etcd_server: EtcdServer, namespace: str
) -> None:
    """gRPC raises ValueError: it ended the thread that watches, and a waiter waited for ever."""
    for number, channel in enumerate(channels_of(face, etcd_server)):
        store = face.store(channel, namespace)
        grant = face.run(store.acquire(claim(f"n{number}"), queue=False))
        ticket = face.run(store.acquire(claim(f"n{number}"), queue=True))
        assert isinstance(ticket, Ticket)
        closed = channel.close()
        if hasattr(closed, "__await__"):
            face.run(_settled(closed))
        until = time.monotonic() + 20.0
        while ticket.inbox.peek() is None and time.monotonic() < until:
            face.run(store.wait(ticket, 0.3))
        assert isinstance(ticket.inbox.peek(), StoreUnavailable)
        for work in (store.release(grant), store.acquire(claim(), queue=True), store.beat([grant], [], within=2.0)):
            with pytest.raises(StoreUnavailable, match="closed by its owner"):
                face.run(work)
        face.run(store.close())


async def _settled(closing: Any) -> None:
    await closing


class Client:
    """What of python-etcd3's client is used; its last release cannot be imported beside a protobuf of today."""

    __module__ = "etcd3.client"

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.metadata = None


@pytest.mark.etcd
def test_a_client_of_python_etcd3_lends_its_channel(etcd_server: EtcdServer, namespace: str) -> None:
    with grpc.insecure_channel(f"{etcd_server.host}:{etcd_server.port}") as channel:
        for target in (Client(channel), channel):
            with locksmith.connect(target, namespace=namespace) as client, client.lock("n").acquire() as lease:
                assert lease.held


def test_what_is_no_channel_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"pass a grpc\.Channel"):
        EtcdStore.from_client(object(), runtime=Blocking(), namespace="")


@pytest.mark.etcd
def test_members_that_are_gone_are_passed_over(face: Any, claim: Make, etcd_server: EtcdServer, namespace: str) -> None:
    url = f"etcd://127.0.0.1:1,127.0.0.1:2,{etcd_server.host}:{etcd_server.port}"
    store = face.store(url, namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    assert isinstance(grant, Grant)
    # What nobody listened to has not acted: "not known" after it is no release.
    assert face.run(face.store(url, namespace).release(grant._replace(token=grant.token + 1))) is False
    with pytest.raises(StoreError):
        face.run(face.store("etcd://127.0.0.1:1,127.0.0.1:2", namespace).acquire(claim(), queue=False))
