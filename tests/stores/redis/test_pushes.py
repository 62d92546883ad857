"""The hub: pushes that come early, late, to the wrong place, or not at all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from locksmith.runtime import drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Claim, Gone, Grant, Ticket
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import RedisServer
from locksmith_redis import RedisStore

pytestmark = pytest.mark.redis
Make = Callable[..., Claim]


async def line(store: RedisStore, claim: Make, **settings: Any) -> tuple[Grant, Ticket]:
    """A holder and a waiter."""
    grant = await store.acquire(claim(**settings), queue=True)
    ticket = await store.acquire(claim(**settings), queue=True)
    assert isinstance(grant, Grant)
    assert isinstance(ticket, Ticket)
    return grant, ticket


async def news(store: RedisStore, ticket: Ticket, within: float = 5.0) -> Any:
    until = time.monotonic() + within
    while ticket.inbox.peek() is None and (left := until - time.monotonic()) > 0:
        await store.wait(ticket, left)
    return ticket.inbox.peek()


def channel_clients(server: RedisServer) -> list[str]:
    """Ids of the connections that are subscribed."""
    listed = str(server.command("CLIENT", "LIST", "TYPE", "pubsub"))
    return [entry.split()[0].removeprefix("id=") for entry in listed.splitlines() if entry]


def test_nobody_subscribes_before_somebody_waits(face: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    server = start_redis()
    store = face.store(server.url, namespace)

    async def alone() -> None:
        for _ in range(3):
            grant = await store.acquire(claim(), queue=True)
            assert isinstance(grant, Grant)
            await store.release(grant)

    face.run(alone())
    assert channel_clients(server) == []
    face.run(line(store, claim))
    assert len(channel_clients(server)) == 1


def test_a_push_for_another_ticket_is_ignored(face: Any, store: RedisStore, claim: Make) -> None:
    """A grant of an earlier place in line has ended; believing its push would be a lock nobody gave."""

    async def stale() -> None:
        _, ticket = await line(store, claim)
        owner = ticket.claim.owner.encode()
        for payload in (b"%b %d 1" % (owner, ticket.number - 1), b"%b %d 1" % (b"f" * 32, ticket.number), b"nonsense"):
            await store._command(b"PUBLISH", store._hub.waiters.channel, payload)
        await store.wait(ticket, 0.1)
        assert ticket.inbox.peek() is None

    face.run(stale())


def test_a_push_faster_than_the_reply_is_not_lost(
    blocking: Any, redis_server: RedisServer, namespace: str, claim: Make
) -> None:
    """The line moves while the reply "you wait" is still on its way to us; the push is read by another thread."""
    with Proxy(redis_server.address) as proxy:
        store = blocking.store(proxy.through(redis_server.url), namespace)
        direct = blocking.store(redis_server.url, namespace)
        _, other = drive(line(store, claim, name="other"))  # its thread will lead
        leader = threading.Thread(target=lambda: drive(store.wait(other, 3)))
        grant = drive(direct.acquire(claim(), queue=False))
        assert isinstance(grant, Grant)
        wanted = claim()
        leader.start()
        waiters = store._hub.waiters
        waiters.expect(wanted.owner)
        ticket = drive(store._acquire(wanted, b"$%d\r\n%b\r\n" % place(store)))
        assert isinstance(ticket, Ticket)
        assert drive(direct.release(grant))
        wait_until(lambda: waiters._waiters[wanted.owner].early is not None)
        assert ticket.inbox.peek() is None
        waiters.bind(ticket)
        assert isinstance(ticket.inbox.peek(), Grant)
        other.inbox.deliver(Gone())
        leader.join(5)
        assert not leader.is_alive()


def place(store: RedisStore) -> tuple[int, bytes]:
    where = b"10000000 " + store._hub.waiters.channel
    return len(where), where


def wait_until(true: Callable[[], bool], within: float = 5.0) -> None:
    until = time.monotonic() + within
    while not true():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_the_hub_comes_back_and_makes_up_for_what_it_missed(
    face: Any, start_redis: Any, namespace: str, claim: Make
) -> None:
    """CLIENT KILL of the subscribed connection, then a hand-over nobody hears of: found at once, not after a third of
    waiter_ttl."""
    server = start_redis()
    store, other = face.store(server.url, namespace), face.store(server.url, namespace)

    async def lost() -> None:
        grant, ticket = await line(store, claim, waiter_ttl=30.0)
        await store.wait(ticket, 0.01)
        began = time.monotonic()
        for number in channel_clients(server):
            server.command("CLIENT", "KILL", "ID", number)
        assert await other.release(grant)
        assert isinstance(await news(store, ticket), Grant)
        assert time.monotonic() - began < 3

    face.run(lost())


def test_killed_command_connections_cost_nobody_an_answer(
    face: Any, start_redis: Any, namespace: str, claim: Make
) -> None:
    """An idle connection that died is replaced, and the request sent again; by owner it is the same request (F17)."""
    server = start_redis()
    store = face.store(server.url, namespace)

    def kill() -> None:
        server.command("CLIENT", "KILL", "TYPE", "normal")

    async def through() -> None:
        grant = await store.acquire(claim(), queue=True)
        kill()
        assert (await store.acquire(grant.claim, queue=True)).token == grant.token
        kill()
        (held,) = await store.beat([grant], [], within=5)
        assert type(held).__name__ == "Held"
        kill()
        assert await store.release(grant)
        kill()
        assert await store.put("c", b"1") > 0

    face.run(through())


def test_nothing_spins_while_the_server_is_down(blocking: Any, start_redis: Any, namespace: str, claim: Make) -> None:
    """The leader tries again at growing intervals, and its wait still ends in time."""
    server = start_redis()
    store = blocking.store(server.url, namespace)
    _, ticket = drive(line(store, claim))
    server.kill()
    used = time.thread_time()
    began = time.monotonic()
    assert drive(news(store, ticket, within=1.0)) is None
    assert 0.9 < time.monotonic() - began < 1.5
    assert time.thread_time() - used < 0.2
    server.start()
    assert isinstance(drive(news(store, ticket)), Gone)  # its line was in memory only


@pytest.mark.native_threads
def test_nothing_spins_while_the_server_is_down_in_asyncio(start_redis: Any, namespace: str, claim: Make) -> None:
    from locksmith.runtime_asyncio import Asyncio

    server = start_redis()

    async def main() -> None:
        store = RedisStore.from_url(server.url, runtime=Asyncio(), namespace=namespace)
        _, ticket = await line(store, claim)
        server.kill()
        used = time.thread_time()
        assert await news(store, ticket, within=1.0) is None
        assert time.thread_time() - used < 0.3
        server.start()
        assert isinstance(await news(store, ticket), Gone)
        await store.close()

    asyncio.run(main())


def test_threads_pass_the_lead_on(blocking: Any, redis_server: RedisServer, namespace: str, claim: Make) -> None:
    """Many threads wait, with waits of all lengths; whoever leads leaves now and then; everybody gets their news."""
    store, other = (blocking.store(redis_server.url, namespace) for _ in range(2))
    holders = [drive(other.acquire(claim(f"n{number}"), queue=True)) for number in range(30)]
    got: list[object] = []

    def wait(number: int) -> None:
        ticket = drive(store.acquire(claim(f"n{number}"), queue=True))
        until = time.monotonic() + 20
        while ticket.inbox.peek() is None and time.monotonic() < until:
            drive(store.wait(ticket, 0.001 * (1 + number % 7)))  # short: leaders leave all the time
        got.append(ticket.inbox.peek())

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    for holder in holders:
        assert drive(other.release(holder))
    for thread in threads:
        thread.join(30)
    assert len(got) == 30
    assert all(isinstance(one, Grant) for one in got)


def test_followers_sleep_until_the_leader_wakes_them(
    blocking: Any, redis_server: RedisServer, namespace: str, claim: Make
) -> None:
    """Without bounds: the leader gets its news and leaves; a follower leads from then on, and gets its own."""
    store, other = (blocking.store(redis_server.url, namespace) for _ in range(2))
    holders = [drive(other.acquire(claim(f"n{number}"), queue=True)) for number in range(8)]
    tickets = [drive(store.acquire(claim(f"n{number}"), queue=True)) for number in range(8)]
    done: list[int] = []

    def wait(number: int) -> None:
        while tickets[number].inbox.peek() is None:
            drive(store.wait(tickets[number], None))
        done.append(number)

    threads = [threading.Thread(target=wait, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for number in range(8):
        assert drive(other.release(holders[number]))
        wait_until(lambda expected=number + 1: len(done) == expected)  # type: ignore[misc]
    assert done == list(range(8))


def test_a_closed_client_wakes_its_leader(
    blocking: Any, redis_server: RedisServer, namespace: str, claim: Make
) -> None:
    store = blocking.store(redis_server.url, namespace)
    _, ticket = drive(line(store, claim))

    def wait() -> None:
        while ticket.inbox.peek() is None:
            drive(store.wait(ticket, None))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(0.05)
    ticket.inbox.deliver(Gone())
    thread.join(5)
    assert not thread.is_alive()
    drive(store.close())
    assert store._hub._wire is None


def test_a_subscription_that_broke_while_the_first_waiter_queued(
    start_redis: Any, namespace: str, claim: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads pushes saw nobody waiting and left, before the number of this place in line had arrived."""
    server = start_redis()

    async def work() -> None:
        store = RedisStore.from_url(server.url, runtime=Asyncio(), namespace=namespace)
        rival = RedisStore.from_url(server.url, runtime=Asyncio(), namespace=namespace)
        grant = await rival.acquire(claim(), queue=False)
        asked = store._acquire

        async def breaks(mine: Claim, where: bytes) -> Any:
            reply = await asked(mine, where)
            if isinstance(reply, Ticket):
                store._hub.move()
                await asyncio.wait([store._hub._reader])
            return reply

        monkeypatch.setattr(store, "_acquire", breaks)
        ticket = await store.acquire(claim(), queue=True)
        assert isinstance(ticket, Ticket)
        assert isinstance(grant, Grant)
        await rival.release(grant)
        assert isinstance(await news(store, ticket, within=20.0), Grant)
        await store.close()
        await rival.close()

    asyncio.run(asyncio.wait_for(work(), 60))
