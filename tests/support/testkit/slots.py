"""Names by their slot in a Redis Cluster."""

from __future__ import annotations

from locksmith import names
from locksmith_redis.nodes import SLOTS, slot_of


def on_node(number: int, count: int = 1) -> list[str]:
    """Names whose slot one of the first three nodes has."""
    found = []
    for attempt in range(10_000):
        name = f"n{attempt}"
        if slot(name) * 3 // SLOTS == number:  # as RedisCluster divides them
            found.append(name)
            if len(found) == count:
                return found
    raise AssertionError


def slot(name: str) -> int:
    return slot_of(b"{%b}" % names.encode(name).encode())
