"""The Redis store keeps the contract, on a real redis-server."""

from __future__ import annotations

import pytest

from locksmith.testing.contract import StoreContract
from locksmith.testing.servers import RedisServer

pytestmark = pytest.mark.redis


class TestRedis(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.server = redis_server

    def url(self) -> str:
        return self.server.url
