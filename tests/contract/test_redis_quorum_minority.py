"""The Redis quorum store keeps the contract with one of its three servers dead: a minority does not matter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from locksmith.testing.contract import StoreContract
from locksmith.testing.servers import RedisNodes

pytestmark = pytest.mark.redis


class TestRedisQuorumWithADeadMinority(StoreContract):
    short = 0.6
    rounds = 2000

    @pytest.fixture(autouse=True)
    def _servers(self, minority_dead: RedisNodes) -> None:
        self.nodes = minority_dead

    def url(self) -> str:
        return self.nodes.url


@pytest.fixture(scope="module")
def minority_dead() -> Iterator[RedisNodes]:
    """Three servers; the first one in the URL was killed."""
    with RedisNodes() as nodes:
        nodes.nodes[0].kill()
        yield nodes
