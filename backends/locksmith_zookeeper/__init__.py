"""ZooKeeper as a store of locksmith: `zookeeper://h1,h2,h3/chroot`, through kazoo."""

from __future__ import annotations

from locksmith_zookeeper.store import ZooKeeperStore

__all__ = ["ZooKeeperStore"]
