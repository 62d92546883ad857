"""The stores on Redis: one server, a primary that sentinels watch, a cluster, and a quorum of independent servers."""

from __future__ import annotations

from locksmith_redis.cluster import RedisClusterStore
from locksmith_redis.quorum import RedisQuorumStore
from locksmith_redis.sentinel import RedisSentinelStore
from locksmith_redis.store import RedisStore

__all__ = ["RedisClusterStore", "RedisQuorumStore", "RedisSentinelStore", "RedisStore"]
