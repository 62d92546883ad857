"""What is sent, how often, and what it leaves on the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from locksmith.store import Claim, Gone, Grant, Held, Ticket, Waiting
from locksmith.testing.servers import RedisServer
from locksmith_redis import RedisStore

pytestmark = pytest.mark.redis
Make = Callable[..., Claim]


def commands(server: RedisServer) -> dict[str, int]:
    """How often each command ran, also within scripts."""
    found = re.findall(r"cmdstat_([^:]+):calls=(\d+)", str(server.command("INFO", "commandstats")))
    return {name: int(calls) for name, calls in found}


@contextmanager
def counted(server: RedisServer) -> Iterator[dict[str, int]]:
    """What ran meanwhile; without our own looking."""
    server.command("CONFIG", "RESETSTAT")
    calls: dict[str, int] = {}
    yield calls
    calls |= {name: number for name, number in commands(server).items() if name not in ("config|resetstat", "info")}


@pytest.fixture
def server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture
def store(face: Any, server: RedisServer, namespace: str) -> RedisStore:
    made: RedisStore = face.store(server.url, namespace)
    face.run(warm(made))
    return made


async def warm(store: RedisStore) -> None:
    """Scripts loaded, hub subscribed."""
    holder = Claim("warm", "warm", "a" * 32, 30.0, 1, 1, 10.0, 0.0, "{}")
    waiter = holder._replace(owner="b" * 32)
    grant = await store.acquire(holder, queue=True)
    ticket = await store.acquire(waiter, queue=True)
    assert isinstance(grant, Grant)
    assert isinstance(ticket, Ticket)
    await store.beat([grant], [ticket], within=5)
    await store.release(grant)
    await store.abandon(waiter, tombstone=False)


def keys(server: RedisServer, namespace: str) -> list[str]:
    found = server.command("KEYS", f"{namespace}:*")
    assert isinstance(found, list)
    return sorted(str(key).removeprefix(f"{namespace}:") for key in found)


def test_an_uncontended_pair_is_two_requests(face: Any, server: RedisServer, store: RedisStore, claim: Make) -> None:
    """Issue 2: one request to take, one to give back; on a string that is read once and written once each."""

    async def pair() -> None:
        for _ in range(10):
            grant = await store.acquire(claim(), queue=True)
            assert isinstance(grant, Grant)
            assert await store.release(grant)

    with counted(server) as calls:
        face.run(pair())
    assert calls == {"evalsha": 20, "get": 20, "time": 20, "psetex": 10, "set": 10}


def test_several_names_are_one_script(face: Any, server: RedisServer, store: RedisStore, claim: Make) -> None:
    """All of them or none: one request, one string read and one written for each name."""

    def claims() -> list[Claim]:
        return [claim(name) for name in ("a", "b", "c")]

    face.run(store.acquire_all([claim(name) for name in ("x", "y", "z")]))  # its script loaded
    with counted(server) as calls:
        grants = face.run(store.acquire_all(claims()))
    assert calls == {"evalsha": 1, "time": 1, "get": 3, "psetex": 3}
    with counted(server) as calls:
        assert face.run(store.acquire_all(claims())) is None
    assert calls["evalsha"] == 1
    assert face.run(store.release(grants[0])) is True


def test_waiting_costs_one_request_and_one_push(face: Any, server: RedisServer, store: RedisStore, claim: Make) -> None:
    async def hand_over() -> None:
        grant = await store.acquire(claim(), queue=True)
        ticket = await store.acquire(claim(), queue=True)
        assert isinstance(grant, Grant)
        assert isinstance(ticket, Ticket)
        assert await store.release(grant)
        await store.wait(ticket, 5)
        news = ticket.inbox.peek()
        assert isinstance(news, Grant)
        assert news.claim is ticket.claim
        assert not news.confirmed
        assert news.ttl == ticket.claim.waiter_ttl
        assert news.since == ticket.word_at
        assert await store.release(news)

    with counted(server) as calls:
        face.run(hand_over())
    assert calls["evalsha"] == 4
    assert calls["publish"] == 1
    assert "subscribe" not in calls


def test_a_beat_is_one_script_per_200_names(face: Any, server: RedisServer, store: RedisStore, claim: Make) -> None:
    async def many() -> list[Any]:
        grants = [await store.acquire(claim(f"n{number}"), queue=True) for number in range(401)]
        return [grant for grant in grants if isinstance(grant, Grant)]

    grants = face.run(many())
    with counted(server) as calls:
        words = face.run(store.beat(grants, [], within=5))
    assert [type(word) for word in words] == [Held] * 401
    assert calls["evalsha"] == 3


def test_cost_does_not_grow_with_the_line(blocking: Any, server: RedisServer, namespace: str, claim: Make) -> None:
    """What one try, one place in line, one beat, one release cost, with two in line and with two thousand."""
    store = blocking.store(server.url, namespace)
    blocking.run(warm(store))
    costs = [costs_with(blocking.run, server, store, claim, waiters) for waiters in (2, 2000)]
    assert costs[0] == costs[1]
    assert max(costs[0].values()) <= 25, costs[0]


def costs_with(run: Any, server: RedisServer, store: RedisStore, claim: Make, waiters: int) -> dict[str, int]:
    """Commands within the one script of each verb."""
    name = f"with-{waiters}"
    holder = run(store.acquire(claim(name), queue=True))
    line = [run(store.acquire(claim(name), queue=True)) for _ in range(waiters)]
    costs = {}
    for what, work in (
        ("try", lambda: run(store.acquire(claim(name), queue=False))),
        ("queue", lambda: line.append(run(store.acquire(claim(name), queue=True)))),
        ("beat", lambda: run(store.beat([holder], [line[-1]], within=5))),
        ("leave", lambda: run(store.abandon(line[-1].claim, tombstone=False))),
        ("release", lambda: run(store.release(holder))),
    ):
        with counted(server) as calls:
            work()
        assert calls.pop("evalsha") == 1
        costs[what] = sum(calls.values())
    return costs


@pytest.mark.parametrize("after", ["SCRIPT FLUSH", "restart"])
def test_forgotten_scripts_are_sent_again(
    face: Any, server: RedisServer, store: RedisStore, claim: Make, after: str
) -> None:
    """Every verb, right after the server forgot its script."""

    def forget() -> None:
        if after == "restart":
            server.restart()
        else:
            server.command("SCRIPT", "FLUSH")

    run = face.run
    forget()
    grant = run(store.acquire(claim(), queue=True))
    assert isinstance(grant, Grant)
    forget()
    ticket = run(store.acquire(claim(), queue=True))
    assert isinstance(ticket, Ticket)
    forget()
    assert [type(word) for word in run(store.beat([grant], [ticket], within=5))] == [Held, Waiting]
    forget()
    version = run(store.put("c", b"1", guard=grant))
    forget()
    assert run(store.delete("c", expect=version))
    forget()
    assert len(run(store.inspect("n")).holders) == 1
    forget()
    assert run(store.names("")).names == ["n"]
    forget()
    assert run(store.release(grant))
    forget()
    run(store.abandon(ticket.claim, tombstone=False))
    forget()
    assert run(store.evict("n", 1)) is False


def test_an_idle_name_is_one_small_string(
    face: Any, server: RedisServer, store: RedisStore, claim: Make, namespace: str
) -> None:
    """After a line, permits, a tombstone: what remains is the last token, for a day."""
    server.command("FLUSHDB")

    async def use() -> int:
        grants = [await store.acquire(claim(limit=3), queue=True) for _ in range(4)]
        waiting = grants.pop()
        assert isinstance(waiting, Ticket)
        await store.abandon(waiting.claim, tombstone=False)
        for grant in grants:
            assert isinstance(grant, Grant)
            assert await store.release(grant)
        return max(grant.token for grant in grants if isinstance(grant, Grant))

    token = face.run(use())
    assert keys(server, namespace) == ["lock:{n}"]
    assert server.command("GET", f"{namespace}:lock:{{n}}") == f"F{token}"
    assert 0 < int(str(server.command("PTTL", f"{namespace}:lock:{{n}}"))) <= 86_400_000


def test_every_key_of_a_name_ends_by_itself(
    face: Any, server: RedisServer, store: RedisStore, claim: Make, namespace: str
) -> None:
    """Everybody vanishes: a day after the last lease, waiter and tombstone could end, nothing is left."""
    server.command("FLUSHDB")

    async def use() -> None:
        await store.acquire(claim("long", ttl=7 * 86_400.0, limit=2), queue=True)
        await store.acquire(claim("long", ttl=1.0, limit=2), queue=True)
        await store.acquire(claim("long", limit=2), queue=True)
        await store.abandon(claim("dead"), tombstone=True)
        await store.acquire(claim("lock"), queue=True)
        await store.acquire(claim("line"), queue=True)
        await store.acquire(claim("line"), queue=True)

    face.run(use())
    assert keys(server, namespace) == [
        *("held:{line}", "held:{long}", "line:{dead}", "line:{line}", "line:{long}"),
        *("lock:{dead}", "lock:{line}", "lock:{lock}", "lock:{long}", "more:{dead}", "more:{line}", "more:{long}"),
    ]
    for key in keys(server, namespace):
        left = int(str(server.command("PTTL", f"{namespace}:{key}"))) / 1000
        days = 8 if "long" in key else 1
        assert days * 86_400 - 5 < left <= days * 86_400 + 3700, key


def test_a_deleted_state_is_a_lost_lease(
    face: Any, server: RedisServer, store: RedisStore, claim: Make, namespace: str
) -> None:
    """F21: an operator deletes the key; holders and waiters learn it by their next beat, and nothing old comes back."""

    async def use() -> tuple[Any, Any]:
        return await store.acquire(claim(), queue=True), await store.acquire(claim(), queue=True)

    grant, ticket = face.run(use())
    server.command("DEL", f"{namespace}:lock:{{n}}")
    lost, gone = face.run(store.beat([grant], [ticket], within=5))
    assert type(lost).__name__ == "Lost"
    assert isinstance(gone, Gone)
    again = face.run(store.acquire(claim(), queue=True))
    assert isinstance(again, Grant)
    assert again.token > grant.token
    assert isinstance(face.run(store.acquire(claim(), queue=True)), Ticket)
    shown = face.run(store.inspect("n"))
    assert (len(shown.holders), len(shown.waiters)) == (1, 1)
