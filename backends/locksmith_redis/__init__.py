"""The store on Redis: `redis://`, `rediss://` and `redis+unix://`."""

from __future__ import annotations

from locksmith_redis.store import RedisStore

__all__ = ["RedisStore"]
