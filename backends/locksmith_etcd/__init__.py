"""The store on etcd: `etcd://` and `etcds://`."""

from __future__ import annotations

from locksmith_etcd.store import EtcdStore

__all__ = ["EtcdStore"]
