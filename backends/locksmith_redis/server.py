"""Where a server is, how the driver connects to it, and which of its settings are never ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry


class Endpoint(Protocol):
    """What connections lead to: one server, or whichever of several has the part that is wanted now."""

    @property
    def address(self) -> str:
        """For people: no secrets."""

    @property
    def timeout(self) -> float:
        """Seconds a connection may take to open, and a reply to arrive."""

    def open(self, seconds: float) -> Any:
        """A connection of the driver, connected and authenticated, each step within so many seconds.

        With the asyncio classes an awaitable of one. Raises the driver's errors.
        """


@dataclass(frozen=True)
class Server:
    """One server."""

    connection_class: type[Any]
    settings: Mapping[str, Any]
    address: str
    """For people: no secrets."""
    timeout: float

    def __repr__(self) -> str:
        return f"<Server {self.address}>"

    @property
    def asynchronous(self) -> bool:
        """Which of the driver's two families its connections are of."""
        return issubclass(self.connection_class, redis.asyncio.connection.AbstractConnection)

    def at(self, host: str, port: int) -> Self:
        """The same settings for another server."""
        scheme = "rediss" if "SSL" in self.connection_class.__name__ else "redis"
        where = f"{scheme}://{shown([(host, port)])}/{self.settings.get('db') or 0}"
        return replace(self, settings={**self.settings, "host": host, "port": port}, address=where)

    def on(self, db: int) -> Self:
        """The same settings for another database."""
        return replace(self, settings={**self.settings, "db": db})

    def connection(self) -> Any:
        """A connection of redis-py, not yet connected, that neither retries nor decodes."""
        settings = dict(self.settings)
        settings["protocol"] = 2
        # redis-py's own Retry would send again what must not be sent twice, and wait where the caller has no time.
        settings["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 0) if self.asynchronous else Retry(NoBackoff(), 0)
        return self.connection_class(**settings)

    def open(self, seconds: float) -> Any:
        """See Endpoint.open."""
        if self.asynchronous:
            from locksmith_redis.wire_async import connect

            return connect(self.connection(), seconds)
        connection = self.connection()
        connection.socket_timeout = connection.socket_connect_timeout = seconds
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection


def shown(hosts: Iterable[tuple[str, int]]) -> str:
    """Hosts as a URL lists them."""
    return ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in hosts)
