"""The script that paces, against the algorithm; and what it leaves on the server."""

from __future__ import annotations

import time
from typing import Any

import pytest
from testkit.paces import agree

from locksmith import pacing
from locksmith.pacing import parse
from locksmith.runtime import drive
from locksmith.testing.servers import RedisServer
from locksmith_redis import scripts

pytestmark = pytest.mark.redis

CLOCK = "{redis.call('HGET', KEYS[1] .. ':clock', 's'), redis.call('HGET', KEYS[1] .. ':clock', 'u')}"
WRITE = "redis.call('PSETEX', KEYS[1], math.ceil(lives / 1000000), "


@pytest.mark.parametrize("seed", range(20))
def test_random_steps_agree_with_the_algorithm(
    seed: int, blocking: Any, redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that the test moves, also back; the server's own clock may not end anything meanwhile."""
    source = scripts.PACE.source.decode()
    assert source.count("redis.call('TIME')") == source.count(WRITE) == 1
    clock = CLOCK.replace("KEYS[1] .. ':clock'", f"'clock:{namespace}'")
    source = source.replace("redis.call('TIME')", clock).replace(WRITE, "redis.call('SET', KEYS[1], ")
    monkeypatch.setattr(scripts.PACE, "source", source.encode())
    monkeypatch.setattr(scripts.PACE, "sha", b"0" * 40)  # never found, so the source is sent
    monkeypatch.setattr(scripts.PACE, "by_sha", scripts.PACE.head(4))
    monkeypatch.setattr(scripts.PACE, "by_source", scripts.PACE.head(4, source=True))
    micros = 1_700_000_000_000_000

    def advance(seconds: float) -> None:
        nonlocal micros
        micros += round(seconds * 1e6)
        redis_server.command("HSET", f"clock:{namespace}", "s", micros // 1_000_000, "u", micros % 1_000_000)

    agree(blocking.store(redis_server.url, namespace), lambda: micros, advance, seed)


def test_what_is_not_asked_for_any_more_leaves_nothing(
    blocking: Any, redis_server: RedisServer, namespace: str
) -> None:
    """The key lives for as long as anything depends on it: until the last slot, and a window and its burst longer."""
    store = blocking.store(redis_server.url, namespace)
    key = f"{namespace}:pace:{{k}}"
    drive(store.pace("k", parse(["70/s"]), 1, at_most=0.0))
    assert 0 < int(redis_server.command("PTTL", key)) <= 1100
    drive(store.pace("k", parse(["70/s"]), 70, at_most=60.0))
    assert 1000 < int(redis_server.command("PTTL", key)) <= 3100
    began = time.monotonic()
    while redis_server.command("EXISTS", key):
        assert time.monotonic() - began < 30
        time.sleep(0.05)
    assert list(redis_server.command("KEYS", f"{namespace}:*")) == []


def test_a_decision_is_one_request(store: Any, face: Any, redis_server: RedisServer) -> None:
    face.run(store.pace("k", parse(["70/s"]), 1, at_most=0.0))
    before = _calls(redis_server)
    for _ in range(10):
        face.run(store.pace("k", parse(["70/s", "1000/h"], [0, 5]), 1, at_most=pacing.HORIZON))
    assert _calls(redis_server) - before == 10


def _calls(server: RedisServer) -> int:
    stats = str(server.command("INFO", "commandstats"))
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in stats.splitlines() if "evalsha" in line)
