"""A majority of servers: which of them may die or freeze, and what is undone where."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from locksmith.errors import (
    LeaseLost,
    StoreUnavailable,
)
from locksmith.store import Grant, Held, Lost, Ticket, Unknown
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.servers import RedisNodes
from locksmith_redis import quorum, votes

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

PATIENCE = 30.0


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Any:
    return FACES[request.param]()


@pytest.fixture(scope="module")
def whole() -> Iterator[RedisNodes]:
    with RedisNodes() as nodes:
        yield nodes


@pytest.fixture
def nodes(whole: RedisNodes) -> Iterator[RedisNodes]:
    """Three servers that tests may kill and pause."""
    yield whole
    for node in whole.nodes:
        if not node.running:
            node.start()
        node.resume()


def alone(face: Face, nodes: RedisNodes, number: int, namespace: str) -> Any:
    """One of the servers, without the others."""
    return face.store(nodes.nodes[number].url, namespace)


async def nothing_is_left(face: Face, nodes: RedisNodes, namespace: str, name: str = "n") -> None:
    for number in range(3):
        store = alone(face, nodes, number, namespace)

        async def empty(store: Any = store) -> bool:
            found = await store.inspect(name)
            return not found.holders and not found.waiters

        await face.eventually(empty, within=PATIENCE, what=f"nothing is left on server {number}")


def test_a_grant_has_one_token_everywhere(face: Face, nodes: RedisNodes, namespace: str, claim: Any) -> None:
    async def work() -> None:
        store = face.store(nodes.url, namespace)
        last = 0
        for dead in (0, 1, 2):
            nodes.nodes[dead].kill()
            grant = await store.acquire(claim(), queue=False)
            assert isinstance(grant, Grant)
            assert grant.token > last
            last = grant.token
            for number in {0, 1, 2} - {dead}:
                found = await alone(face, nodes, number, namespace).inspect("n")
                assert [view.token for view in found.holders] == [grant.token]
            assert isinstance((await store.beat([grant], [], within=5.0))[0], Held)
            again = await store.acquire(grant.claim, queue=False)
            assert isinstance(again, Grant)
            assert again.token == grant.token
            nodes.nodes[dead].start()
            assert await store.release(grant) is True
        await nothing_is_left(face, nodes, namespace)

    face.run(work())


def test_a_server_that_answers_late_takes_on_the_token(
    face: Face, nodes: RedisNodes, namespace: str, claim: Any
) -> None:
    """Repeating an acquire asks a server that was dead before; its greater token does not become the grant's."""

    async def work() -> None:
        store = face.store(nodes.url, namespace)
        nodes.nodes[1].kill()
        grant = await store.acquire(claim(), queue=False)
        assert isinstance(grant, Grant)
        nodes.nodes[1].start()
        until = time.monotonic() + PATIENCE
        while not (await alone(face, nodes, 1, namespace).inspect("n")).holders:
            again = await store.acquire(grant.claim, queue=False)
            assert isinstance(again, Grant)
            assert again.token == grant.token
            assert time.monotonic() < until
        found = await alone(face, nodes, 1, namespace).inspect("n")
        assert found.holders[0].token == grant.token
        assert await store.release(grant) is True
        await nothing_is_left(face, nodes, namespace)

    face.run(work())


def test_votes_that_are_no_majority_are_given_back(face: Face, nodes: RedisNodes, namespace: str, claim: Any) -> None:
    async def work() -> None:
        store = face.store(nodes.url, namespace)
        rivals = [await alone(face, nodes, number, namespace).acquire(claim(), queue=False) for number in (0, 1)]
        assert all(isinstance(rival, Grant) for rival in rivals)
        assert await store.acquire(claim(), queue=False) is None
        assert not (await alone(face, nodes, 2, namespace).inspect("n")).holders
        assert not (await store.inspect("n")).limit  # two servers, two owners: nobody has a majority
        assert await alone(face, nodes, 0, namespace).release(rivals[0]) is True
        grant = await store.acquire(claim(), queue=False)
        assert isinstance(grant, Grant)
        assert await store.release(grant) is True

    face.run(work())


def test_two_dead_servers_of_three(face: Face, nodes: RedisNodes, namespace: str) -> None:
    """StoreUnavailable at once; and when they are back nothing is left of what was tried."""

    async def work() -> None:
        client = face.connect(nodes.url, namespace=namespace, ttl=30.0)
        for node in nodes.nodes[1:]:
            node.kill()
        began = time.monotonic()
        for wait in (0, 0, 5):
            with pytest.raises(StoreUnavailable, match="fewer than 2 of 3"):
                await client.lock("n").acquire(wait=wait)
        assert time.monotonic() - began < PATIENCE / 2
        for node in nodes.nodes[1:]:
            node.start()
        await nothing_is_left(face, nodes, namespace)

        async def works() -> bool:
            try:
                return bool(await (await client.lock("n").acquire(wait=0)).release())
            except StoreUnavailable:
                return False

        await face.eventually(works, within=PATIENCE, what="it works again")

    face.run(work())


def test_two_frozen_servers_of_three(face: Face, nodes: RedisNodes, namespace: str) -> None:
    """Their requests are stalled, not lost: they run when the servers go on, and are undone all the same."""

    async def work() -> None:
        client = face.connect(f"{nodes.url}?timeout=0.3", namespace=namespace, ttl=30.0)
        async with client.lock("n").acquire():
            pass  # connections are there
        for node in nodes.nodes[1:]:
            await face.call(node.pause)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await client.lock("n").acquire(wait=5)
        assert time.monotonic() - began < PATIENCE / 2
        for node in nodes.nodes[1:]:
            await face.call(node.resume)
        await nothing_is_left(face, nodes, namespace)

    face.run(work())


def test_a_late_success_is_undone(face: Face, nodes: RedisNodes, namespace: str) -> None:
    """One server is frozen while two grant: the lease is good, and what the third does later is taken back."""

    async def work() -> None:
        client = face.connect(f"{nodes.url}?timeout=0.3", namespace=namespace, ttl=60.0)
        async with client.lock("n").acquire():
            pass
        await face.call(nodes.nodes[2].pause)
        lease = await client.lock("n").acquire()
        assert lease.held
        await face.call(nodes.nodes[2].resume)
        third = alone(face, nodes, 2, namespace)

        async def taken_back() -> bool:
            return not (await third.inspect("n")).holders

        await face.eventually(taken_back, within=PATIENCE, what="taken back")
        assert lease.held
        assert await client.lock("n").try_acquire() is None
        assert await lease.release() is True
        await nothing_is_left(face, nodes, namespace)

    face.run(work())


def test_a_vote_that_is_to_be_undone_does_not_count(
    face: Face, nodes: RedisNodes, namespace: str, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undoing what a silent server may have done of one try must not undo the next try of the same claim."""
    monkeypatch.setattr(votes, "_PAUSES", (3.0,))

    async def work() -> None:
        store = face.store(f"{nodes.url}?timeout=0.3", namespace)
        mine = claim()
        for name in ("n", "other"):  # connections are there, and so are the scripts
            await store.release(await store.acquire(claim(name), queue=False))  # type: ignore[arg-type]
        first = alone(face, nodes, 0, namespace)
        rival = await first.acquire(claim(), queue=False)
        await face.call(nodes.nodes[2].pause)
        with contextlib.suppress(StoreUnavailable):
            assert await store.acquire(mine, queue=False) is None
        await face.call(nodes.nodes[2].resume)
        assert await first.release(rival) is True
        await face.call(nodes.nodes[1].kill)
        with pytest.raises(StoreUnavailable):
            await store.acquire(mine, queue=False)

    face.run(work())


def test_where_every_vote_is_to_be_undone_nobody_is_asked(
    face: Face, nodes: RedisNodes, namespace: str, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: a grant by servers that all still owe an undoing would be believed, undone, and given to somebody else."""
    monkeypatch.setattr(votes, "_PAUSES", (3.0,))

    async def work() -> None:
        store = face.store(f"{nodes.url}?timeout=0.3", namespace)
        mine = claim()
        # connections are there, and so are the scripts
        await store.release(await store.acquire(claim("other"), queue=False))  # type: ignore[arg-type]
        for node in nodes.nodes:
            await face.call(node.pause)
        with pytest.raises(StoreUnavailable):
            await store.acquire(mine, queue=False)
        for node in nodes.nodes:
            await face.call(node.resume)
        assert await store.acquire(mine, queue=False) is None
        await nothing_is_left(face, nodes, namespace)

    face.run(work())


def test_a_lease_outlives_one_server_and_not_two(face: Face, nodes: RedisNodes, namespace: str) -> None:
    async def work() -> None:
        client = face.connect(nodes.url, namespace=namespace, ttl=2.0)
        lease = await client.lock("n").acquire()
        nodes.nodes[0].kill()
        await face.sleep(3.0)
        assert lease.held
        nodes.nodes[1].kill()
        assert await lease.lost.wait(PATIENCE) is True
        for node in nodes.nodes[:2]:
            node.start()
        with pytest.raises(LeaseLost):
            await lease.release()
        await nothing_is_left(face, nodes, namespace)

    face.run(work())


def test_what_a_beat_says(face: Face, nodes: RedisNodes, namespace: str, claim: Any) -> None:
    async def work() -> None:
        store = face.store(nodes.url, namespace)
        grant = await store.acquire(claim(), queue=False)
        other = await store.acquire(claim("other"), queue=False)
        assert isinstance(grant, Grant)
        assert isinstance(other, Grant)
        assert await alone(face, nodes, 0, namespace).evict("n", grant.token) is True
        words = await store.beat([grant, other], [], within=5.0)
        assert [type(word) for word in words] == [Held, Held]
        assert await alone(face, nodes, 1, namespace).evict("n", grant.token) is True
        words = await store.beat([grant, other], [], within=5.0)
        assert [type(word) for word in words] == [Lost, Held]
        for node in nodes.nodes[1:]:
            node.kill()
        (word,) = await store.beat([other], [], within=1.0)
        assert isinstance(word, Unknown)

    face.run(work())


def test_a_hint_wakes_who_waits(face: Face, nodes: RedisNodes, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "_NAPS", (1000.0,))

    async def work() -> None:
        client, other = face.connect(nodes.url, namespace=namespace), face.connect(nodes.url, namespace=namespace)
        for _ in range(3):
            lease = await other.lock("n").acquire()
            waiting = face.start(client.lock("n").acquire(wait=PATIENCE).__aenter__())
            node = nodes.nodes[0]

            async def subscribed(node: Any = node) -> bool:
                return bool(str(node.command("CLIENT", "LIST", "TYPE", "pubsub")).strip())

            await face.eventually(subscribed, what="subscribed")
            await face.sleep(0.1)  # the first nap begins anew once subscribed
            assert await lease.release() is True
            got = await waiting.result(PATIENCE / 2)  # it would nap until its wait is over
            assert await got.release() is True

    face.run(work())


def test_who_waits_outlives_a_short_outage(face: Face, nodes: RedisNodes, namespace: str) -> None:
    async def work() -> None:
        client = face.connect(nodes.url, namespace=namespace, waiter_ttl=PATIENCE, ttl=60.0)
        lease = await client.lock("n").acquire()
        waiting = face.start(client.lock("n").acquire(wait=60).__aenter__())
        await face.sleep(0.3)
        for node in nodes.nodes[1:]:
            await face.call(node.restart)  # saves what it knows
        await face.sleep(0.3)
        assert not waiting.done()
        assert await lease.release() is True
        assert await (await waiting.result(PATIENCE)).release() is True

    face.run(work())


def test_who_waits_is_told_of_a_long_one(face: Face, nodes: RedisNodes, namespace: str) -> None:
    async def work() -> None:
        client = face.connect(nodes.url, namespace=namespace, waiter_ttl=1.0)
        await client.lock("n").acquire()
        waiting = face.start(client.lock("n").acquire(wait=100).__aenter__())
        await face.sleep(0.3)
        for node in nodes.nodes[1:]:
            await face.call(node.kill)
        with pytest.raises(StoreUnavailable):
            await waiting.result(PATIENCE)

    face.run(work())


def test_many_at_once(face: Face, nodes: RedisNodes, namespace: str) -> None:
    """Split votes and all: one at a time, and everybody in the end."""

    async def work() -> None:
        clients = [face.connect(nodes.url, namespace=namespace) for _ in range(4)]
        inside, turns = 0, 0

        async def one(client: Any) -> None:
            nonlocal inside, turns
            for _ in range(10):
                async with client.lock("n").acquire(wait=60) as lease:
                    assert inside == 0
                    inside += 1
                    assert lease.held
                    await face.sleep(0.001)
                    turns += 1
                    inside -= 1

        jobs = [face.start(one(client)) for client in clients]
        for job in jobs:
            await job.result(100)
        assert turns == 40
        await nothing_is_left(face, nodes, namespace)

    face.run(work())


def test_a_ticket_is_a_place_in_no_line(face: Face, nodes: RedisNodes, namespace: str, claim: Any) -> None:
    async def work() -> None:
        store = face.store(nodes.url, namespace)
        grant = await store.acquire(claim(), queue=False)
        assert isinstance(grant, Grant)
        ticket = await store.acquire(claim(), queue=True)
        assert isinstance(ticket, Ticket)
        assert (await store.inspect("n")).waiters == []
        await store.wait(ticket, 0.2)
        assert ticket.inbox.peek() is None
        assert await store.release(grant) is True
        await store.wait(ticket, PATIENCE)
        assert isinstance(ticket.inbox.peek(), Grant)

    face.run(work())
