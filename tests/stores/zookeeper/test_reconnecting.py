"""How soon a server that was away is found again, and what is held there renewed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.protocol.connection import ConnectionHandler
from testkit.replies import eventually, granted

import locksmith
from locksmith import events
from locksmith.store import Held
from locksmith.testing.proxy import Proxy
from locksmith_zookeeper.connection import GREETING, Connection

pytestmark = pytest.mark.zookeeper
TTL = 61.0
SOON = 15.0
"""Seconds: much more than it takes, and less than until the next renewal is due."""


@pytest.fixture
def proxy(zookeeper_server) -> Iterator[Proxy]:
    with Proxy(zookeeper_server.address) as made:
        yield made


def test_a_server_that_does_not_answer_a_new_connection_is_left_soon(face, proxy, claim, zookeeper_server, namespace):
    """As a ZooKeeper that starts does not, now and then: kazoo would wait there for as long as the session lives."""
    store = face.store(proxy.through(zookeeper_server.url), namespace)
    grant = granted(face.run(store.acquire(claim(ttl=TTL), queue=False)))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(SOON)
        proxy.target = silent.getsockname()
        proxy.drop()
        connection, _ = silent.accept()
        proxy.target = zookeeper_server.address
        with connection:
            eventually(lambda: store._session(TTL).connected, SOON, "connected again")
    (word,) = face.run(store.beat([grant], [], within=5.0))
    assert isinstance(word, Held)
    assert face.run(store.release(grant)) is True


def test_a_server_that_is_slow_to_answer_a_new_connection_is_given_more_time(
    face, proxy, claim, zookeeper_server, namespace, monkeypatch
) -> None:
    given: list[float] = []
    invoke = ConnectionHandler._invoke

    def slow(self: Any, timeout: float, *args: Any) -> Any:
        if isinstance(self, Connection) and self.life.ttl == TTL:  # nobody else's
            given.append(timeout)
            if len(given) < 4:
                raise self.handler.timeout_exception("as if it had taken so long")
        return invoke(self, timeout, *args)

    monkeypatch.setattr(ConnectionHandler, "_invoke", slow)
    store = face.store(f"{proxy.through(zookeeper_server.url)}?timeout=30", namespace)
    assert face.run(store.release(granted(face.run(store.acquire(claim(ttl=TTL), queue=False)))))
    assert given == [GREETING, 2 * GREETING, 4 * GREETING, 8 * GREETING]
    proxy.drop()
    eventually(lambda: len(given) > 4, SOON, "connected again")
    assert given[4] == GREETING


def test_what_is_held_is_renewed_as_soon_as_there_is_a_connection_again(proxy, zookeeper_server, namespace) -> None:
    """And not when it is due, or when the pause after a renewal that failed is over."""
    renewed = threading.Event()

    def hook(record: object) -> None:
        if isinstance(record, events.Renewed):
            renewed.set()

    url = proxy.through(zookeeper_server.url)
    with locksmith.connect(url, ttl=TTL, namespace=namespace, hooks=[hook]) as client, client.lock("n").acquire():
        assert not renewed.is_set()
        proxy.drop()
        assert renewed.wait(SOON)
