"""TLS, client certificates, ACL users, Unix sockets, and clients that belong to the user."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

import locksmith_redis.scripts
from locksmith.errors import StoreAuthError, StoreError, StoreUnavailable
from locksmith.store import Claim, Grant, Held, Ticket
from locksmith.testing.servers import RedisServer
from locksmith_redis.scripts import Script

pytestmark = pytest.mark.redis
Make = Callable[..., Claim]
PAGE = Path(__file__).parents[3] / "docs" / "stores" / "redis.md"


async def everything(store: Any, claim: Make) -> None:
    """Each verb once, with a hand-over by push."""
    grant = await store.acquire(claim(), queue=True)
    ticket = await store.acquire(claim(), queue=True)
    assert isinstance(grant, Grant)
    assert isinstance(ticket, Ticket)
    assert [type(word).__name__ for word in await store.beat([grant], [ticket], within=5)] == ["Held", "Waiting"]
    version = await store.put("c", b"value", guard=grant)
    assert (await store.get("c")).version == version
    assert await store.delete("c", expect=version)
    assert await store.release(grant)
    await store.wait(ticket, 5)
    handed = ticket.inbox.peek()
    assert isinstance(handed, Grant)
    assert isinstance((await store.beat([handed], [], within=5))[0], Held)
    assert (await store.inspect("n")).token == handed.token
    assert (await store.names("")).names == ["n"]
    assert await store.evict("n", handed.token)
    await store.abandon(handed.claim, tombstone=True)
    assert await store.now() > 0
    permits = await store.acquire(claim("p", limit=2), queue=True)
    assert await store.release(permits)


@pytest.fixture(scope="module")
def tls_server() -> Any:
    with RedisServer(tls=True) as server:
        yield server


def test_tls_with_client_certificates(face: Any, tls_server: RedisServer, namespace: str, claim: Make) -> None:
    assert tls_server.url.startswith("rediss://")
    face.run(everything(face.store(tls_server.url, namespace), claim))


def test_tls_without_a_client_certificate(face: Any, tls_server: RedisServer, namespace: str, claim: Make) -> None:
    url = f"rediss://{tls_server.host}:{tls_server.port}/0?ssl_ca_certs={tls_server.certificates.authority}"
    # Whether the server's alert is still read, or only that it hung up, is a matter of microseconds.
    with pytest.raises((StoreAuthError, StoreUnavailable), match="ssl_certfile"):
        face.run(face.store(url, namespace).acquire(claim(), queue=True))


def test_tls_with_a_stranger(face: Any, tls_server: RedisServer, namespace: str, claim: Make) -> None:
    """A server whose certificate nobody vouches for is not spoken to."""
    with pytest.raises(StoreAuthError, match="TLS options"):
        face.run(face.store(f"rediss://{tls_server.host}:{tls_server.port}/0", namespace).acquire(claim(), queue=True))


def test_plain_words_to_a_tls_server(face: Any, tls_server: RedisServer, namespace: str, claim: Make) -> None:
    with pytest.raises(StoreError):
        face.run(face.store(f"redis://{tls_server.host}:{tls_server.port}/0", namespace).acquire(claim(), queue=True))


def test_tls_words_to_a_plain_server(face: Any, redis_server: RedisServer, namespace: str, claim: Make) -> None:
    url = f"rediss://{redis_server.host}:{redis_server.port}/0?ssl_cert_reqs=none"
    with pytest.raises(StoreError):
        face.run(face.store(url, namespace).acquire(claim(), queue=True))


def test_a_unix_socket_with_a_password(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    server = start_redis(unix_socket=True, password="p/w:%")
    face.run(everything(face.store(server.unix_url, namespace), claim))


def recipe() -> str:
    """The least privileges, as docs/stores/redis.md has them."""
    found = re.search(r"ACL SETUSER app ([^`]*?)\n```", PAGE.read_text("utf-8"))
    assert found is not None
    return " ".join(found[1].replace("\\\n", " ").split())


def test_the_recipe_names_every_command_of_the_scripts() -> None:
    """Also those of paths that are hardly ever taken: a script that is refused halfway has done half of its work."""
    scripts = (value for value in vars(locksmith_redis.scripts).values() if isinstance(value, Script))
    used = {name for script in scripts for name in re.findall(r"redis\.p?call\('(\w+)'", script.source.decode())}
    assert {f"+{name.lower()}" for name in used} <= set(recipe().split())


def test_the_recipe_for_least_privileges(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    """With the documented rules everything works, and nothing else does."""
    rules = recipe().replace("locksmith:", f"{namespace}:")
    server = start_redis(users={"app": rules})
    password = re.search(r">(\S+)", rules)
    assert password is not None
    url = server.url_for(username="app", password=password[1])
    store = face.store(url, namespace)
    face.run(everything(store, claim))
    with pytest.raises(StoreAuthError):
        face.run(face.store(url, "elsewhere").acquire(claim(), queue=True))
    with pytest.raises(StoreAuthError):
        face.run(store._command(b"FLUSHALL"))
    assert [finding.level for finding in face.run(store.diagnose())].count("error") == 0


def test_a_missing_channel_permission_is_found_before_anybody_waits(
    face: Any, start_redis: Any, namespace: str, claim: Make
) -> None:
    rules = re.sub(r"&\S+", "", recipe().replace("locksmith:", f"{namespace}:"))
    server = start_redis(users={"app": f"resetchannels {rules}"})
    store = face.store(server.url_for(username="app", password=re.search(r">(\S+)", rules)[1]), namespace)  # type: ignore[index]
    assert isinstance(face.run(store.acquire(claim(), queue=True)), Grant)
    with pytest.raises(StoreAuthError):
        face.run(store.acquire(claim(), queue=True))
    assert face.run(store.inspect("n")).waiters == []


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_client_of_the_user(
    face: Any, redis_server: RedisServer, namespace: str, claim: Make, decode: bool, protocol: int
) -> None:
    """Whatever it decodes and speaks; it is not closed, and none of its connections are used up."""
    make: Any = redis.asyncio.Redis if face.name == "asyncio" else redis.Redis
    client = make(host=redis_server.host, port=redis_server.port, decode_responses=decode, protocol=protocol)
    store = face.store(client, namespace)
    face.run(everything(store, claim))
    face.run(store.close())

    async def still_open() -> None:
        reply = client.ping()
        assert await reply if face.name == "asyncio" else reply
        closed = client.aclose() if face.name == "asyncio" else client.close()
        if closed is not None:
            await closed

    face.run(still_open())
