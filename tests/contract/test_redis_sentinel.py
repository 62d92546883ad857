"""The Redis store behind sentinels keeps the contract, on a real primary with a replica."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import ServerCases, StoreContract
from locksmith.testing.servers import RedisSentinels

pytestmark = pytest.mark.redis


class TestRedisSentinel(StoreContract):
    rounds = 4000

    @pytest.fixture(autouse=True)
    def _server(self, redis_sentinels: RedisSentinels) -> None:
        self.group = redis_sentinels

    def url(self) -> str:
        # What the replica has counts: the strictest form of every grant, hand-over and renewal.
        return self.group.url_for(wait_replicas=1, wait_timeout=4.0)


class TestRedisSentinelServer(ServerCases):
    @pytest.fixture(autouse=True)
    def _server(self, own_sentinels: RedisSentinels) -> None:
        self.group = own_sentinels

    def url(self) -> str:
        return self.group.url

    def break_connections(self) -> None:
        for kind in ("normal", "pubsub"):
            self.group.primary.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def restart(self) -> None:
        self.group.primary.restart()

    def pause(self) -> None:
        self.group.primary.pause()

    def resume(self) -> None:
        self.group.primary.resume()


@pytest.fixture(scope="module")
def own_sentinels() -> Iterator[RedisSentinels]:
    """Sentinels so patient that they leave the primary alone while these cases pause it and start it anew."""
    with RedisSentinels(down_after=60.0) as group:
        yield group
