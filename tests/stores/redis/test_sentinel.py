"""Fail-overs while somebody holds, waits and hammers; replicas that do not answer; who may ask whom."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio.sentinel
import redis.sentinel
from redis import exceptions as driver

from locksmith.errors import (
    AcquireTimeout,
    ConfigurationError,
    LeaseLost,
    StoreAuthError,
    StoreError,
    StoreUnavailable,
)
from locksmith.runtime import Blocking, drive
from locksmith.store import Grant, Guarantee, Held, Unknown
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.servers import RedisSentinels
from locksmith_redis import RedisSentinelStore

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

PATIENCE = 40.0


@pytest.fixture(scope="module")
def whole() -> Iterator[RedisSentinels]:
    """Two replicas, and passwords of their own for data and sentinels."""
    with RedisSentinels(replicas=2, password="data", sentinel_password="watch") as group:
        yield group


@pytest.fixture
def group(whole: RedisSentinels) -> RedisSentinels:
    """The same, mended after what the last test did to it."""
    whole.mend()
    return whole


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Any:
    return FACES[request.param]()


async def acquire(client: Any, **settings: Any) -> Any:
    return await client.lock("n").acquire(**settings)


async def acquired(client: Any, name: str = "n") -> Any:
    """A lease, however long the fail-over takes."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return await client.lock(name).acquire(wait=5)
        except (StoreUnavailable, AcquireTimeout):
            assert time.monotonic() < until


def test_a_lease_that_replicas_have_outlives_its_primary(face: Face, group: RedisSentinels, namespace: str) -> None:
    async def work() -> None:
        url = group.url_for(wait_replicas=1)
        client, rival = face.connect(url, namespace=namespace, ttl=20.0), face.connect(group.url, namespace=namespace)
        lease = await acquire(client)
        await face.call(group.fail_over)
        assert lease.held
        assert await rival.lock("n").try_acquire() is None
        before = (await rival.inspect("n")).holders[0].expires_in

        async def renewed() -> bool:
            return (await rival.inspect("n")).holders[0].expires_in > before

        await face.eventually(renewed, within=PATIENCE, what="renewed on the new primary")
        assert lease.held
        assert await lease.release() is True
        again = await acquired(rival)
        assert again.token > lease.token

    face.run(work())


def test_a_waiter_outlives_the_primary(face: Face, group: RedisSentinels, namespace: str) -> None:
    async def work() -> None:
        url = group.url_for(wait_replicas=1)
        holder = face.connect(url, namespace=namespace, ttl=60.0)
        client = face.connect(url, namespace=namespace, waiter_ttl=30.0)
        lease = await acquire(holder)
        waiting = face.start(acquire(client, wait=100))

        async def in_line() -> bool:
            return len((await holder.inspect("n")).waiters) == 1

        await face.eventually(in_line, what="in line")
        await face.call(group.fail_over)
        with contextlib.suppress(StoreError):
            await lease.release()
        await holder.close()  # tries again where that was in vain
        got = await waiting.result(PATIENCE)
        assert got.token > lease.token
        assert await got.release() is True

    face.run(work())


def test_a_planned_fail_over_is_followed(face: Face, group: RedisSentinels, namespace: str) -> None:
    """Connections to the old primary live on, and it says READONLY: nothing was done there, so nothing is in doubt."""

    async def work() -> None:
        client = face.connect(group.url, namespace=namespace)
        async with client.lock("n").acquire():
            pass
        old = group.primary
        group.sentinels[0].command("SENTINEL", "FAILOVER", group.name)
        await face.call(lambda: group.await_new_primary(old))
        for number in range(3):
            lease = await acquired(client, f"n{number}")
            assert await lease.release() is True

    face.run(work())


def test_a_demoted_primary_is_left_at_once(face: Face, namespace: str) -> None:
    """READONLY on a connection that nobody closed: asked again where the sentinels say, in the same request."""

    async def work() -> None:
        with RedisSentinels(down_after=60.0) as group:
            client = face.connect(group.url, namespace=namespace, ttl=3.0)
            lease = await acquire(client)
            old, new = group.primary, group.replicas[0]
            new.command("REPLICAOF", "NO", "ONE")
            old.command("REPLICAOF", new.host, new.port)
            for sentinel in group.sentinels:
                sentinel.command("SENTINEL", "REMOVE", group.name)
                sentinel.command("SENTINEL", "MONITOR", group.name, new.host, new.port, 2)
            async with client.lock("other").acquire(wait=0):
                pass
            assert lease.held
            assert await lease.release() is True
            async with client.lock("n").acquire(wait=0):
                pass

    face.run(work())


def test_a_server_that_is_no_primary_is_not_believed(face: Face, namespace: str) -> None:
    """Whatever the sentinels say: the server's own ROLE decides."""

    async def work() -> None:
        with RedisSentinels(down_after=60.0) as group:
            replica = group.replicas[0]
            for sentinel in group.sentinels:
                sentinel.command("SENTINEL", "REMOVE", group.name)
                sentinel.command("SENTINEL", "MONITOR", group.name, replica.host, replica.port, 2)
            client = face.connect(f"{group.url}?timeout=1", namespace=namespace)
            with pytest.raises(StoreUnavailable, match="is not the primary"):
                await client.lock("n").acquire(wait=0)

    face.run(work())


def test_nobody_is_believed_beside_another(face: Face, group: RedisSentinels, namespace: str) -> None:
    """P3 over a fail-over: belief, taken from the leases themselves, never overlaps; and work goes on afterwards."""
    beliefs: list[tuple[float, float]] = []

    async def work() -> None:
        url = group.url_for(wait_replicas=1)
        clients = [face.connect(url, namespace=namespace, ttl=3.0, waiter_ttl=2.0) for _ in range(3)]
        done: list[float] = []

        async def hammer(client: Any) -> None:
            while not done:
                try:
                    lease = await client.lock("n").acquire(wait=1.0)
                except (AcquireTimeout, StoreUnavailable):
                    continue
                first = last = time.monotonic()
                while lease.held and last - first < 0.05:
                    await face.sleep(0.005)
                    now = time.monotonic()
                    last = now if lease.held else last
                beliefs.append((first, last))
                with contextlib.suppress(LeaseLost, StoreError):
                    await lease.release()

        jobs = [face.start(hammer(client)) for client in clients]
        await face.sleep(1.0)
        await face.call(group.fail_over)
        over = time.monotonic()
        await face.eventually(lambda: sum(b[0] > over for b in beliefs) > 10, within=PATIENCE, what="work goes on")
        done.append(0.0)
        for job in jobs:
            await job.result(PATIENCE)

    face.run(work())
    beliefs.sort()
    for (_, end), (start, _) in itertools.pairwise(beliefs):
        assert end <= start


def test_too_few_replicas(face: Face, group: RedisSentinels, namespace: str) -> None:
    """No grant, no hand-over and no renewal counts; and nothing is left of what did not count."""

    async def work() -> None:
        url = group.url_for(wait_replicas=2, wait_timeout=0.2)
        client, other = face.connect(url, namespace=namespace, ttl=2.0), face.connect(group.url, namespace=namespace)
        lease = await acquire(client)
        frozen = group.replicas[0]
        held = await other.lock("m").acquire()
        waiting = face.start(client.lock("m").acquire(wait=20).__aenter__())

        async def in_line() -> bool:
            return len((await other.inspect("m")).waiters) == 1

        await face.eventually(in_line, what="in line")
        await face.call(frozen.pause)
        try:
            with pytest.raises(StoreUnavailable, match="of 2 replicas"):
                await client.lock("free").acquire(wait=5)
            assert (await other.inspect("free")).holders == []
            assert await held.release()
            with pytest.raises(StoreUnavailable):
                await waiting.result(PATIENCE)
            assert await lease.lost.wait(PATIENCE) is True
        finally:
            await face.call(frozen.resume)
        await face.eventually(lambda: _in_sync(group), within=PATIENCE, what="in sync")
        for name in ("n", "m", "free"):
            assert await (await acquired(client, name)).release() is True

    face.run(work())


def _in_sync(group: RedisSentinels) -> bool:
    return str(group.primary.command("INFO", "replication")).count("state=online") == 2


# Who may ask whom, and how.


def test_the_drivers_own_client(face: Face, group: RedisSentinels, namespace: str) -> None:
    theirs: Any = redis.asyncio.sentinel if face.name == "asyncio" else redis.sentinel

    async def work() -> None:
        hosts = [sentinel.address for sentinel in group.sentinels]
        manager = theirs.Sentinel(hosts, password="data", sentinel_kwargs={"password": "watch"})
        client = manager.master_for(group.name)
        ours = face.connect(client, namespace=namespace)
        assert "+sentinel://" in ours.address
        async with ours.lock("n").acquire():
            assert await face.connect(group.url, namespace=namespace).lock("n").try_acquire() is None
        await ours.close()
        pong = client.ping()
        assert (await pong if face.name == "asyncio" else pong) is True  # theirs is open still
        with pytest.raises(ConfigurationError, match="replicas"):
            face.connect(manager.slave_for(group.name))
        for each in (client, *manager.sentinels):
            closed = each.aclose() if face.name == "asyncio" else each.close()
            if face.name == "asyncio":
                await closed

    face.run(work())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("sentinel_password=watch", "sentinel_password=wrong"), StoreAuthError),
        ((":data@", ":wrong@"), StoreAuthError),
        (("/tower", "/tower-of-babel"), StoreUnavailable),
    ],
)
def test_wrong_words(
    face: Face, group: RedisSentinels, namespace: str, change: tuple[str, str], error: type[StoreError]
) -> None:
    async def work() -> None:
        url = group.url.replace(*change)
        assert url != group.url
        with pytest.raises(error) as caught:
            await acquire(face.connect(url, namespace=namespace))
        assert "watch" not in str(caught.value)
        assert "data@" not in str(caught.value)

    face.run(work())


def test_without_sentinels(face: Face, namespace: str) -> None:
    async def work() -> None:
        with pytest.raises(StoreUnavailable):
            await acquire(face.connect("redis+sentinel://127.0.0.1:1,127.0.0.1:2/tower", namespace=namespace))

    face.run(work())


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a,b",
        "redis+sentinel:///tower",
        "redis+sentinel://a,,b/tower",
        "redis+sentinel://a,a/tower",
        "redis+sentinel://a:0/tower",
        "redis+sentinel://a:x/tower",
        "redis+sentinel://a/tower/zero",
        "redis+sentinel://a/tower?wait_replicas=-1",
        "redis+sentinel://a/tower?wait_replicas=all",
        "redis+sentinel://a/tower?wait_timeout=6",
        "redis+sentinel://a/tower?ssl_ca_certs=x",
        "redis+sentinel://a/tower?color=red",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ConfigurationError):
        RedisSentinelStore.from_url(url, runtime=Blocking(), namespace="n")


def test_addresses_and_guarantees() -> None:
    def made(url: str) -> RedisSentinelStore:
        return RedisSentinelStore.from_url(url, runtime=Blocking(), namespace="n")

    store = made("rediss+sentinel://bob:secret@a:1,[::1],c/tower/3?sentinel_password=hush&wait_replicas=2")
    assert store.address == "rediss+sentinel://a:1,[::1]:26379,c:26379/tower/3"
    assert "secret" not in repr(store.__dict__)
    assert "hush" not in repr(store.__dict__)
    assert Guarantee.SURVIVES_FAILOVER not in store.guarantees
    assert Guarantee.FIFO in store.guarantees


def test_the_doctor(face: Face, group: RedisSentinels, namespace: str) -> None:
    async def said(**options: Any) -> str:
        findings = await face.connect(group.url_for(**options), namespace=namespace).diagnose()
        if face.name == "blocking":
            assert not [finding for finding in findings if finding.level == "error"]
        return "\n".join(f"{finding.level}: {finding.what}" for finding in findings)

    async def work() -> None:
        assert "warning: 2 replica(s) may lack the last grants" in await said()
        assert "warning: a grant waits for 1 of 2 replicas" in await said(wait_replicas=1)
        text = await said(wait_replicas=2)
        assert "ok: a grant waits for all 2 replica(s)" in text
        assert "ok: 3 of the 3 sentinels" in text
        assert "warning: a primary that is cut off goes on granting" in text
        assert "ok: a name can be taken" in text
        findings = await face.connect(group.url_for(wait_replicas=3), namespace=namespace).diagnose()
        assert next(finding.what for finding in findings if finding.level == "error").startswith("2 of the 3 replicas")

    face.run(work())


READONLY = "READONLY You can't write against a read only replica."
OF_REDIS_6 = f"ERR Error running script (call to f_12ab): @user_script:51: @user_script: 51: -{READONLY}"


@pytest.mark.parametrize("said", [READONLY, OF_REDIS_6])
def test_a_primary_that_was_demoted_is_left_whatever_its_version(
    said: str, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 6 wraps what a script met: its connections were kept, and each request went to the replica again."""
    store = RedisSentinelStore.from_url("redis+sentinel://127.0.0.1:1/p", runtime=Blocking(), namespace="t")
    heard: list[Any] = []

    class Demoted:
        """Says so until its connections are dropped."""

        def ask(self, payload: bytes) -> Any:
            heard.append("asked")
            if "dropped" not in heard:
                raise driver.ResponseError(said)
            return 7, 0.0, False

        def ask_all(self, payloads: list[bytes], within: float) -> list[Any]:
            return [([-1, said.removeprefix("ERR ").encode(), 1, 0], 0.0, False) for _ in payloads]

        def drop_idle(self) -> None:
            heard.append("dropped")

    monkeypatch.setattr(store, "_link", Demoted())
    grant = drive(store.acquire(claim(), queue=False))
    assert isinstance(grant, Grant)
    assert heard == ["asked", "dropped", "asked"]
    heard.clear()
    words = drive(store.beat([grant, grant], [], within=1.0))
    assert [type(word) for word in words] == [Unknown, Held]
    assert heard == ["dropped"]
