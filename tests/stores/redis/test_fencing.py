"""Guarded writes to keys of somebody else's, on one server, by clients of both colours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

import locksmith
from locksmith import Fence, LeaseLost, StaleToken
from locksmith.errors import ConfigurationError
from locksmith.testing.servers import RedisServer
from locksmith_redis import fencing
from locksmith_redis.fencing import fence_of, guarded, guarded_async, guarded_set, guarded_set_async

pytestmark = pytest.mark.redis

OLD = Fence("import", 999)
NEW = Fence("import", 1_764_000_000_000_002)


class Blocking:
    """redis.Redis."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)

    def set(self, *words: Any, **settings: Any) -> None:
        guarded_set(self.client, *words, **settings)

    def run(self, *words: Any, **settings: Any) -> Any:
        return guarded(self.client, *words, **settings)

    def ask(self, *words: Any) -> Any:
        return self.client.execute_command(*words)

    def close(self) -> None:
        self.client.close()


class Asynchronous:
    """redis.asyncio.Redis, which decodes."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self.client = redis.asyncio.Redis.from_url(url, decode_responses=True)

    def set(self, *words: Any, **settings: Any) -> None:
        self._runner.run(guarded_set_async(self.client, *words, **settings))

    def run(self, *words: Any, **settings: Any) -> Any:
        return self._runner.run(guarded_async(self.client, *words, **settings))

    def ask(self, *words: Any) -> Any:
        async def asked() -> Any:
            return await self.client.execute_command(*words)

        return self._runner.run(asked())

    def close(self) -> None:
        self._runner.run(self.client.aclose())
        self._runner.close()


@pytest.fixture(params=[Blocking, pytest.param(Asynchronous, marks=pytest.mark.native_threads)])
def hands(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Any]:
    made = request.param(redis_server.url)
    yield made
    made.close()


@pytest.fixture
def key(namespace: str) -> str:
    return f"{namespace}:work"


def test_a_late_write_is_refused(hands: Any, key: str) -> None:
    hands.set(key, "old", OLD)
    hands.set(key, "old again", OLD)
    hands.set(key, "new", NEW)
    with pytest.raises(StaleToken, match="token 999 comes too late") as late:
        hands.set(key, "late", OLD)
    assert late.value.seen == NEW.token
    assert hands.ask("GET", key) in ("new", b"new")
    hands.set(key, "newer", NEW)
    assert hands.ask("GET", key) in ("newer", b"newer")


def test_a_ttl_is_the_values_alone(hands: Any, key: str) -> None:
    hands.set(key, "new", NEW, ttl=30)
    assert 0 < hands.ask("PTTL", key) <= 30_000
    assert hands.ask("TTL", fence_of(key, NEW).fence) == -1
    hands.ask("DEL", key)
    with pytest.raises(StaleToken):
        hands.set(key, "late", OLD)
    assert not hands.ask("EXISTS", key)
    for ttl in (0, -1, True, "1", float("nan")):
        with pytest.raises(ConfigurationError, match="ttl"):
            hands.set(key, "new", NEW, ttl=ttl)


def test_any_command_on_a_key(hands: Any, key: str) -> None:
    assert hands.run(NEW, "HSET", key, "field", 1) == 1
    assert hands.run(NEW, "HSET", key, "field", 2, "other", 3) == 1
    with pytest.raises(StaleToken):
        hands.run(OLD, "HSET", key, "field", "late")
    with pytest.raises(StaleToken):
        hands.run(OLD, "DEL", key)
    assert hands.ask("HGET", key, "field") in ("2", b"2")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        hands.run(NEW, "LPUSH", key, "a")


def test_keys_that_share_a_fence_are_one_resource(hands: Any, key: str) -> None:
    """A later holder that has written to one of them so far keeps an earlier one from all of them."""
    hands.set(f"{key}:a", "old", OLD, fence=f"{key}:fence")
    hands.set(f"{key}:b", "new", NEW, fence=f"{key}:fence")
    with pytest.raises(StaleToken):
        hands.set(f"{key}:a", "late", OLD, fence=f"{key}:fence")
    hands.set(f"{key}:c", "new", NEW)
    hands.set(f"{key}:d", "of another resource", OLD)


@pytest.mark.native_threads
def test_a_server_that_forgot_the_script(start_redis: Callable[..., RedisServer]) -> None:
    for made in (Blocking, Asynchronous):
        hands = made(start_redis().url)
        for value in ("one", "two"):
            hands.set("key", value, OLD)
        hands.ask("SCRIPT", "FLUSH")
        hands.set("key", "three", NEW)
        with pytest.raises(StaleToken):
            hands.set("key", "late", OLD)
        hands.close()


def test_a_script_of_ones_own(hands: Any, key: str) -> None:
    source = fencing.LUA + "if not fenced(KEYS[2], ARGV[1]) then return 'late' end return redis.call('INCR', KEYS[1])"
    for fence, said in ((OLD, (1,)), (NEW, (2,)), (OLD, ("late", b"late")), (NEW, (3,))):
        words = fence_of(key, fence)
        assert hands.ask("EVAL", source, 2, key, words.fence, words.token) in said


def test_real_leases(redis_server: RedisServer, namespace: str, key: str) -> None:
    with (
        redis.Redis.from_url(redis_server.url) as client,
        locksmith.connect(redis_server.url, namespace=namespace) as locks,
    ):
        lock = locks.lock("import")
        sleeper = lock.acquire(wait=20)
        sleeper.check()
        found = Fence.of(sleeper)
        locks.evict("import", sleeper.token)
        with lock.acquire(wait=20) as holder:
            guarded_set(client, key, "holder", holder)
        with pytest.raises(StaleToken):
            guarded_set(client, key, "late", found)
        with pytest.raises(LeaseLost, match="released before"):
            guarded_set(client, key, "after its release", holder)
        assert client.get(key) == b"holder"


def test_many_writers_at_once(redis_server: RedisServer, key: str) -> None:
    """Whatever the order in which they come, the value is that of the highest token, and each refusal is of a lower."""
    wrong = []

    def write(first: int) -> None:
        with redis.Redis.from_url(redis_server.url) as client:
            for number in range(50):
                token = first + number // 10 * 10
                try:
                    guarded_set(client, key, token, Fence("import", token))
                except StaleToken as refused:
                    if refused.seen is None or refused.seen <= token:
                        wrong.append((token, refused.seen))

    writers = [threading.Thread(target=write, args=(token,)) for token in (1, 5, 9)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with redis.Redis.from_url(redis_server.url) as client:
        assert int(client.get(fence_of(key, OLD).fence)) == 49  # type: ignore[arg-type]
        assert client.get(key) == b"49"
    assert not wrong


@given(st.text(alphabet="{}ab:", min_size=1, max_size=12), st.text(alphabet="{}ab:", min_size=1, max_size=12))
def test_a_fence_lies_beside_its_key_and_beside_no_other(one: str, other: str) -> None:
    found = []
    for key in (one, other):
        try:
            fence = fence_of(key, OLD).fence
        except ConfigurationError:
            assert "}" in key
            return
        assert isinstance(fence, str)
        assert key_slot(fence.encode()) == key_slot(key.encode())
        assert fence_of(key.encode(), OLD).fence == fence.encode()
        found.append(fence)
    assert (found[0] == found[1]) == (one == other)
