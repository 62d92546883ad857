"""Throwaway servers by name, as `locksmith serve` and the fixture `locksmith_server` start them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self, cast

from locksmith.errors import ConfigurationError
from locksmith.testing.servers.base import Server, ServerFailed
from locksmith.testing.servers.programs import ServerMissing, find


class Throwaway(Protocol):
    """What they all have: one server, or several that belong together. Used in a `with` statement."""

    @property
    def url(self) -> str:
        """What `locksmith.connect` takes."""
        ...

    def start(self) -> Self:
        """Start it, and return when it can be used. Raises ServerMissing, ServerFailed."""
        ...

    def close(self) -> None:
        """End it and remove its data. Safe to repeat."""
        ...

    def __enter__(self) -> Self:
        """Start it, unless it runs."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        ...


@dataclass(frozen=True)
class Kind:
    """One line of the catalogue."""

    what: str
    home: str
    """module:class, below this package; called without arguments."""
    program: str
    """The name in `programs.PROGRAMS`."""

    def missing(self) -> str | None:
        """None where its program is installed, else what to do about it."""
        try:
            find(self.program)
        except ServerMissing as missing:
            return str(missing)
        return None


KINDS: Final = {
    "redis": Kind("a Redis server", "redis:RedisServer", "redis"),
    "redis-sentinel": Kind("a primary, a replica, three sentinels", "redis_sentinel:RedisSentinels", "redis"),
    "redis-cluster": Kind("a cluster of three primaries", "redis_cluster:RedisCluster", "redis"),
    "redis-quorum": Kind("three servers that know nothing of each other", "redis_group:RedisNodes", "redis"),
    "postgresql": Kind("a PostgreSQL server", "postgresql:PostgreSQLServer", "postgresql"),
    "mariadb": Kind("a MariaDB server", "mariadb:MariaDBServer", "mariadb"),
    "zookeeper": Kind("a ZooKeeper server", "zookeeper:ZooKeeperServer", "zookeeper"),
    "zookeeper:3": Kind("three that elect a leader", "zookeeper:ZooKeeperEnsemble", "zookeeper"),
    "etcd": Kind("an etcd server", "etcd:EtcdServer", "etcd"),
    "etcd:3": Kind("three that elect a leader", "etcd:EtcdEnsemble", "etcd"),
    "consul": Kind("a Consul server", "consul:ConsulServer", "consul"),
    "consul:3": Kind("three that elect a leader", "consul:ConsulEnsemble", "consul"),
}


def kind(name: str) -> Kind:
    """The line of the catalogue. Raises ConfigurationError where there is none of this name."""
    try:
        return KINDS[name]
    except KeyError:
        raise ConfigurationError(f"there is no throwaway server {name!r}; there are {', '.join(KINDS)}") from None


def make(name: str) -> Throwaway:
    """The server of this name, not started yet. Raises ConfigurationError."""
    module, _, cls = kind(name).home.partition(":")
    made = getattr(importlib.import_module(f"locksmith.testing.servers.{module}"), cls)()
    return cast(Throwaway, made)


def check(servers: Sequence[Throwaway]) -> None:
    """Raise ServerFailed where one of them has ended by itself; of several that belong together some may."""
    for server in servers:
        if isinstance(server, Server) and not server.running:
            raise ServerFailed(f"{server!r} ended by itself: {server.log()[-1000:]}")
