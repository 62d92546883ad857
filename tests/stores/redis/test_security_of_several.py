"""TLS and least privileges of the stores that stand on several servers, as their pages describe them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from locksmith.errors import StoreAuthError, StoreError
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.servers import RedisCluster, RedisNodes, RedisSentinels, RedisServer
from locksmith.testing.servers.redis_group import RedisGroup

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

DOCS = Path(__file__).parents[3] / "docs" / "stores"


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Any:
    return FACES[request.param]()


async def everything(face: Face, url: str, namespace: str) -> None:
    """Locks on several nodes, with a wait that a push or a hint ends, a beat, and the doctor."""
    url += ("&" if "?" in url else "?") + "timeout=10"  # a handshake takes its time on a busy machine
    holder, client = face.connect(url, namespace=namespace), face.connect(url, namespace=namespace)
    for number in range(4):
        lease = await holder.lock(f"n{number}").acquire(wait=20)
        waiting = face.start(client.lock(f"n{number}").acquire(wait=20).__aenter__())
        await face.sleep(0.05)
        assert await lease.release() is True
        got = await waiting.result(20)
        assert got.held
        assert await got.release() is True
    assert [finding.what for finding in await client.diagnose() if finding.level == "error"] == []
    assert [name async for name in client.names()] == []


@pytest.mark.parametrize("make", [RedisNodes, RedisCluster, RedisSentinels])
def test_tls(face: Face, namespace: str, make: type[RedisGroup]) -> None:
    async def work(group: Any) -> None:
        assert group.url.startswith("rediss+")
        await everything(face, group.url, namespace)
        with pytest.raises(StoreError):
            await face.connect(group.url.partition("?")[0], namespace=namespace).lock("n").acquire(wait=0)

    with make(tls=True) as group:
        face.run(work(group))


def rules(page: str) -> list[str]:
    """The least privileges, as a page has them."""
    found = re.search(r"ACL SETUSER app ([^`]*?)\n```", (DOCS / page).read_text("utf-8"))
    assert found is not None
    return found[1].replace("\\\n", " ").split()


def narrow(servers: list[Any], namespace: str, *more: str) -> None:
    """Add a user with the documented rules to each of these servers."""
    for server in servers:
        assert isinstance(server, RedisServer)
        wanted = [rule.replace("locksmith:", f"{namespace}:") for rule in [*rules("redis.md"), *more]]
        server.command("ACL", "SETUSER", "app", *wanted)


def as_app(url: str) -> str:
    return url.replace("://", "://app:secret@", 1)


def test_least_privileges_of_a_quorum(face: Face, redis_nodes: RedisNodes, namespace: str) -> None:
    narrow(redis_nodes.nodes, namespace)
    face.run(everything(face, as_app(redis_nodes.url), namespace))


def test_least_privileges_of_a_cluster(face: Face, redis_cluster: RedisCluster, namespace: str) -> None:
    narrow(list(redis_cluster.nodes), namespace, *_added("redis-cluster.md"))
    face.run(everything(face, as_app(redis_cluster.url), namespace))


def test_least_privileges_behind_sentinels(face: Face, redis_sentinels: RedisSentinels, namespace: str) -> None:
    narrow(redis_sentinels.servers, namespace, *_added("redis-sentinel.md"))
    for sentinel in redis_sentinels.sentinels:
        sentinel.command("ACL", "SETUSER", "app", *rules("redis-sentinel.md"))
    url = as_app(redis_sentinels.url_for(sentinel_username="app", sentinel_password="secret", wait_replicas=1))
    face.run(everything(face, url, namespace))

    async def refused() -> None:
        wrong = url.replace("sentinel_password=secret", "sentinel_password=wrong")
        with pytest.raises(StoreAuthError):
            await face.connect(wrong, namespace=namespace).lock("n").acquire(wait=0)

    face.run(refused())


def _added(page: str) -> list[str]:
    """The rules that a page adds to those of one server."""
    found = re.search(r"for it `([^`]+)`", (DOCS / page).read_text("utf-8"))
    assert found is not None
    return found[1].split()
