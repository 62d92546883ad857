"""Guarded writes in a cluster, where one node serves a key and its fence; and what the tokens of a quorum are worth."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio

import locksmith
from locksmith import Fence, StaleToken
from locksmith.errors import ConfigurationError, GuaranteeMissing
from locksmith.testing.servers import RedisCluster, RedisNodes
from locksmith_redis.fencing import fence_of, guarded, guarded_set, guarded_set_async

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

OLD, NEW = Fence("import", 1), Fence("import", 2)


def keys_of(namespace: str) -> list[str]:
    """On all nodes, with hash tags and without."""
    plain = [f"{namespace}:{number}" for number in range(12)]
    return plain + [f"{namespace}:{{{key}}}:x" for key in plain] + [f"{namespace}{{"]


def test_blocking(redis_cluster: RedisCluster, namespace: str) -> None:
    host, port = redis_cluster.primaries[0].address
    client = redis.RedisCluster(host=host, port=port)
    try:
        for key in keys_of(namespace):
            guarded_set(client, key, "old", OLD)
            guarded_set(client, key.encode(), "new", NEW, ttl=60)
            with pytest.raises(StaleToken):
                guarded_set(client, key, "late", OLD)
            assert client.get(key) == b"new"
            assert guarded(client, NEW, "APPEND", key, "er") == 5
        with pytest.raises(ConfigurationError, match="name a fence in its slot"):
            guarded_set(client, f"}}{namespace}", "new", NEW)
    finally:
        client.close()


@pytest.mark.native_threads
def test_asyncio(redis_cluster: RedisCluster, namespace: str) -> None:
    host, port = redis_cluster.primaries[0].address

    async def body() -> None:
        async with redis.asyncio.RedisCluster(host=host, port=port) as client:
            for key in keys_of(namespace):
                await guarded_set_async(client, key, "old", OLD)
                await guarded_set_async(client, key, "new", NEW)
                with pytest.raises(StaleToken):
                    await guarded_set_async(client, key, "late", OLD)
                assert await client.get(key) == b"new"

    asyncio.run(body())


def test_tokens_of_a_quorum_are_refused(redis_nodes: RedisNodes, namespace: str) -> None:
    """Its store does not promise that they grow."""
    with locksmith.connect(redis_nodes.url, namespace=namespace) as locks:
        lease = locks.lock("import").acquire(wait=20)
        with pytest.raises(GuaranteeMissing, match="FENCED"):
            fence_of("key", lease)
        lease.release()
