"""F5: a network that swallows everything in silence, between a holder and its server."""

from __future__ import annotations

import threading
import time

import pytest

import locksmith
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import RedisServer

TTL = 2.0


def test_a_holder_behind_a_silent_network_is_warned_then_loses_and_hurts_nobody(
    redis_server: RedisServer, namespace: str
) -> None:
    told: dict[str, float] = {}
    lost = threading.Event()
    with Proxy(redis_server.address) as proxy:
        cut_off = locksmith.connect(proxy.through(redis_server.url), ttl=TTL, namespace=namespace)
        with cut_off, locksmith.connect(redis_server.url, ttl=TTL, namespace=namespace) as other:
            lease = cut_off.lock("x").acquire()
            lease.on_suspect(lambda: told.setdefault("suspect", time.monotonic()))
            lease.on_lost(lambda: (told.setdefault("lost", time.monotonic()), lost.set()))
            proxy.black_hole()
            deadline = time.monotonic() + lease.remaining()
            successor = other.lock("x").acquire(wait=TTL + 2)
            # P3: by the time another holds it, this holder does not believe any more.
            assert not lease.held
            assert successor.token > lease.token
            assert lost.wait(1.0)
            assert told["suspect"] < deadline
            assert told["lost"] <= deadline + 0.2
            proxy.heal()
            with pytest.raises(locksmith.LeaseLost):
                lease.release()
            assert successor.held
            assert successor.release()
