"""What the quorum store refuses, which addresses and clients it takes, and what its doctor says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

import locksmith
from locksmith import aio
from locksmith.errors import (
    AcquireTimeout,
    ConfigurationError,
    GuaranteeMissing,
    SettingsConflict,
    StoreAuthError,
    StoreUnavailable,
)
from locksmith.runtime import Blocking
from locksmith.store import Guarantee
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.servers import RedisNodes
from locksmith_redis import RedisQuorumStore

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Any:
    return FACES[request.param]()


@pytest.fixture(scope="module")
def nodes() -> Iterator[RedisNodes]:
    with RedisNodes() as nodes:
        yield nodes


def test_what_it_does_not_promise(face: Face, nodes: RedisNodes, namespace: str) -> None:
    connect: Any = aio.connect if face.name == "asyncio" else locksmith.connect
    assert RedisQuorumStore.guarantees is Guarantee.SHARED
    for flag in Guarantee:
        if flag is not Guarantee.SHARED:
            with pytest.raises(GuaranteeMissing, match=str(flag.name)):
                connect(nodes.url, require=flag)
    client = connect(nodes.url, namespace=namespace, require="shared")
    refused: list[Callable[[], object]] = [
        lambda: client.semaphore("n", limit=2),
        lambda: client.rwlock("n"),
        lambda: client.lock("n", lock_delay=1.0),
        lambda: client.election("n"),
        lambda: client.cell("n"),
    ]
    for call in refused:
        with pytest.raises(GuaranteeMissing, match=r"redis\+quorum://"):
            call()
    client.semaphore("n", limit=1)  # is a lock

    async def work() -> None:
        store = face.store(nodes.url, namespace)
        for cell in (store.get("c"), store.put("c", b""), store.delete("c"), store.changed("c", 0, 0.0)):
            with pytest.raises(GuaranteeMissing, match="no cells"):
                await cell

    face.run(work())


def test_run_once_needs_cells(nodes: RedisNodes, namespace: str) -> None:
    with locksmith.connect(nodes.url, namespace=namespace) as client:
        calls: list[int] = []

        @locksmith.run_once(client=client, key="job", once_per=60.0)
        def job() -> None:
            calls.append(1)

        with pytest.raises(GuaranteeMissing):
            job()
        assert calls == []


def test_the_same_name_as_a_semaphore_elsewhere(face: Face, nodes: RedisNodes, namespace: str, claim: Any) -> None:
    async def work() -> None:
        for number in (0, 1):
            await face.store(nodes.nodes[number].url, namespace).acquire(claim(limit=3), queue=False)
        with pytest.raises(SettingsConflict):
            await face.store(nodes.url, namespace).acquire(claim(), queue=False)

    face.run(work())


# Addresses, clients, the doctor.


def test_the_drivers_own_clients(face: Face, nodes: RedisNodes, namespace: str) -> None:
    family: Any = redis.asyncio if face.name == "asyncio" else redis

    async def work() -> None:
        clients = [family.Redis(host=node.host, port=node.port) for node in nodes.nodes]
        for several in (clients, tuple(clients)):
            ours = face.connect(several, namespace=namespace)
            assert ours.address.startswith("redis+quorum://")
            async with ours.lock("n").acquire():
                with pytest.raises(AcquireTimeout):
                    await face.connect(nodes.url, namespace=namespace).lock("n").acquire(wait=0)
            await ours.close()
        for bad in (clients[:2], [*clients[:2], object()], [*clients[:2], clients[0]], []):
            with pytest.raises(ConfigurationError):
                face.connect(bad)
        for client in clients:
            pong = client.ping()
            assert (await pong if face.name == "asyncio" else pong) is True
            closed = client.aclose() if face.name == "asyncio" else client.close()
            if face.name == "asyncio":
                await closed

    face.run(work())


@pytest.mark.parametrize("hosts", ["a,b", "a", "a,b,b", "a,b,c:x", ""])
def test_bad_urls(hosts: str) -> None:
    with pytest.raises(ConfigurationError):
        RedisQuorumStore.from_url(f"redis+quorum://{hosts}", runtime=Blocking(), namespace="n")


def test_addresses_show_no_secrets() -> None:
    url = "rediss+quorum://bob:secret@a,b:1,[::1]/2?timeout=0.2"
    store = RedisQuorumStore.from_url(url, runtime=Blocking(), namespace="n")
    assert store.address == "rediss+quorum://a:6379,b:1,[::1]:6379/2"
    assert store._votes.timeout == pytest.approx(0.2)


def test_wrong_password(face: Face, namespace: str) -> None:
    async def work() -> None:
        with RedisNodes(password="secret") as nodes:
            client = face.connect(nodes.url.replace("secret", "wrong"), namespace=namespace)
            with pytest.raises((StoreAuthError, StoreUnavailable), match=r"WRONGPASS|invalid username-password"):
                await client.lock("n").acquire(wait=0)
            async with face.connect(nodes.url, namespace=namespace).lock("n").acquire(wait=0):
                pass

    face.run(work())


def test_the_doctor(face: Face, nodes: RedisNodes, namespace: str) -> None:
    async def said(url: str) -> str:
        findings = await face.connect(url, namespace=namespace).diagnose()
        return "\n".join(f"{finding.level}: {finding.what}" for finding in findings)

    async def work() -> None:
        text = await said(nodes.url)
        assert "ok: 3 of 3 servers answer" in text
        assert text.count("an independent primary") == 3
        assert text.count("a restart forgets grants") == 3
        twice = f"redis+quorum://{nodes.url.partition('//')[2]},localhost:{nodes.nodes[0].port}"
        assert "error: two addresses lead to one server" in await said(twice)
        nodes.nodes[1].kill()
        text = await said(nodes.url)
        nodes.nodes[1].start()
        assert "warning: 2 of 3 servers answer" in text

    face.run(work())
