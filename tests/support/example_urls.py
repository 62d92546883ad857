"""One URL for every scheme that locksmith itself registers, and those whose options change what is promised."""

from __future__ import annotations

from importlib.metadata import entry_points

SCHEMES = {
    "memory": "memory://",
    "sqlite": "sqlite:////tmp/locks.db",
    "redis": "redis://localhost",
    "rediss": "rediss://localhost",
    "redis+unix": "redis+unix:///run/redis.sock",
    "redis+sentinel": "redis+sentinel://h1,h2,h3/main",
    "rediss+sentinel": "rediss+sentinel://h1,h2,h3/main",
    "redis+cluster": "redis+cluster://h1,h2,h3",
    "rediss+cluster": "rediss+cluster://h1,h2,h3",
    "redis+quorum": "redis+quorum://h1,h2,h3",
    "rediss+quorum": "rediss+quorum://h1,h2,h3",
    "postgresql": "postgresql://localhost/app",
    "mysql": "mysql://localhost/app",
    "mariadb": "mariadb://localhost/app",
    "zookeeper": "zookeeper://h1,h2,h3/app",
    "etcd": "etcd://h1,h2,h3",
    "etcds": "etcds://h1,h2,h3",
    "consul": "consul://localhost:8500",
    "consuls": "consuls://localhost:8501",
}

VARIANTS: dict[str, str] = {"postgresql://...?mode=advisory": "postgresql://localhost/app?mode=advisory"}
"""What the table calls it, and a URL of it."""


def registered() -> set[str]:
    """The schemes that this distribution's stores answer to."""
    entries = entry_points(group="locksmith.stores")
    return {entry.name for entry in entries if entry.dist is not None and entry.dist.name == "locksmith"}
