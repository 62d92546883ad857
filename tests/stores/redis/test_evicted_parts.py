"""A server that evicts parts of a name, and one that does not know AUTH."""

from __future__ import annotations

import threading

import pytest
import redis

import locksmith
from locksmith.errors import StoreProtocolError
from locksmith.testing import eventually
from locksmith.testing.servers import RedisServer
from locksmith_redis.errors import translate

pytestmark = pytest.mark.redis


def test_holders_whose_ends_are_gone_have_ended(redis_server: RedisServer, namespace: str) -> None:
    """The permits were taken for ever, and the first in line was told that asking failed."""
    with (
        locksmith.connect(redis_server.url, ttl=1.0, namespace=namespace) as client,
        locksmith.connect(redis_server.url, ttl=1.0, waiter_ttl=0.6, namespace=namespace) as other,
    ):
        lease = client.lock("n").acquire()
        got: list[locksmith.Lease] = []
        waiter = threading.Thread(target=lambda: got.append(other.lock("n").acquire(wait=5)))
        waiter.start()
        eventually(lambda: len(client.inspect("n").waiters) == 1)
        drop(redis_server, f"{namespace}:held:{{n}}")
        waiter.join(5)
        assert got
        assert got[0].held
        assert lease.lost.wait(1.0)
        assert got[0].release()


def test_a_try_after_that_is_granted(redis_server: RedisServer, namespace: str) -> None:
    with locksmith.connect(redis_server.url, ttl=30, namespace=namespace) as client:
        semaphore = client.semaphore("s", limit=1000)
        lease = semaphore.acquire(permits=1000)
        drop(redis_server, f"{namespace}:held:{{s}}")
        assert semaphore.acquire(permits=1000, wait=0).token > lease.token


def drop(server: RedisServer, key: str) -> None:
    with redis.Redis.from_url(server.url) as driver:
        assert driver.delete(key) == 1


def test_a_server_without_auth_does_not_make_us_show_the_password() -> None:
    """It quotes what it does not know, password and all; a traceback shows our error and the driver's."""
    driver = redis.ResponseError("unknown command 'AUTH', with args beginning with: 'bob' 'SECRET' ")
    told = translate(driver)
    assert isinstance(told, StoreProtocolError)
    assert "SECRET" not in f"{told} {driver} {driver!r}"
