"""The store on Consul: `consul://` and `consuls://`."""

from __future__ import annotations

from locksmith_consul.store import ConsulStore

__all__ = ["ConsulStore"]
