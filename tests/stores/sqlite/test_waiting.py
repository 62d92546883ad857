"""Waiting: who polls, how soon a grant arrives, and what it costs until then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import locksmith
from locksmith.runtime import drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Grant
from locksmith.testing.waiting import eventually
from locksmith_sql import SQLiteStore


def test_waiting_costs_almost_no_cpu(start_worker: Callable[..., Any], open_store: Any, claim: Any) -> None:
    """In a process of its own: 2 s of waiting, while somebody else commits all the time."""
    store = open_store()
    drive(store.acquire(claim("held"), queue=False))
    worker = start_worker("wait_cpu", 2)
    ends = time.monotonic() + 3
    while time.monotonic() < ends and worker.poll() is None:
        drive(store.release(drive(store.acquire(claim("noise"), queue=False))))
        time.sleep(0.005)
    assert float(worker.communicate()[0]) < 0.2


def test_one_thread_polls_for_all(open_store: Any, claim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And when it leaves another one goes on: every waiter has its grant, in order."""
    store, other = open_store(), open_store()
    looking: set[int] = set()
    real = store._desk.poll

    def spy(work: Any) -> Any:
        looking.add(threading.get_ident())
        return real(work)

    monkeypatch.setattr(store._desk, "poll", spy)
    first = drive(other.acquire(claim(), queue=False))
    tickets = [drive(store.acquire(claim(), queue=True)) for _ in range(6)]
    order: list[int] = []
    left = threading.Event()

    def wait(index: int) -> None:
        while not isinstance(news := tickets[index].inbox.peek(), Grant):
            drive(store.wait(tickets[index], 0.2 if index == 0 and not left.is_set() else 20))
            if index == 0:
                left.set()
        order.append(index)
        store.leave(tickets[index])
        assert drive(other.release(news)) is True

    threads = [threading.Thread(target=wait, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    assert len(looking) == 1
    left.wait(5)
    time.sleep(0.1)
    drive(other.release(first))
    for thread in threads:
        thread.join(10)
    assert order == list(range(6))
    assert not store._hub._tickets
    assert not store._hub._waiting


def test_a_hand_over_inside_one_client_needs_no_poll(open_store: Any, claim: Any) -> None:
    store = open_store()
    grant = drive(store.acquire(claim(), queue=False))
    ticket = drive(store.acquire(claim(), queue=True))
    drive(store.release(grant))
    assert isinstance(ticket.inbox.peek(), Grant)
    assert store._desk._link.raw.execute("SELECT count(*) FROM test_news").fetchone() == (0,)


def test_a_grant_that_came_before_its_ticket_is_not_lost(open_store: Any, claim: Any) -> None:
    """Another thread may hand over between the commit of the enqueue and the delivery of its answer."""
    store = open_store()
    grant = drive(store.acquire(claim(), queue=False))
    late = claim()
    _, queued = store._acquire(late, True)
    drive(store.release(grant))
    ticket = drive(store.acquire(late, queue=True))
    assert isinstance(ticket, Grant) or isinstance(ticket.inbox.peek(), Grant)
    assert queued.number == 1


def test_a_repeated_acquire_returns_the_ticket_that_is_known(open_store: Any, claim: Any) -> None:
    store = open_store()
    drive(store.acquire(claim(), queue=False))
    mine = claim()
    assert drive(store.acquire(mine, queue=True)) is drive(store.acquire(mine, queue=True))


def test_news_are_gone_once_confirmed(open_store: Any, claim: Any) -> None:
    store, other = open_store(), open_store()
    for end in ("beat", "release", "abandon"):
        grant = drive(other.acquire(claim(), queue=False))
        ticket = drive(store.acquire(claim(), queue=True))
        drive(other.release(grant))
        raw = store._desk._link.raw
        assert raw.execute("SELECT count(*) FROM test_news").fetchone() == (1,)
        drive(store.wait(ticket, 5))
        handed = ticket.inbox.peek()
        assert isinstance(handed, Grant)
        if end == "beat":
            drive(store.beat([handed], [], within=5))
        elif end == "abandon":
            drive(store.abandon(handed.claim, tombstone=False))
        if end == "release":
            assert drive(store.release(handed)) is True
        assert raw.execute("SELECT count(*) FROM test_news").fetchone() == (0,)
        drive(store.abandon(handed.claim, tombstone=False))


def test_wait_returns_in_time(open_store: Any, claim: Any) -> None:
    store = open_store()
    drive(store.acquire(claim(), queue=False))
    ticket = drive(store.acquire(claim(), queue=True))
    for timeout in (0.0, 0.05, 0.2):
        began = time.monotonic()
        drive(store.wait(ticket, timeout))
        assert timeout * 0.9 <= time.monotonic() - began < timeout + 0.2


def test_a_waiter_is_woken_by_its_inbox(open_store: Any, claim: Any) -> None:
    """The keeper delivers too, and so does a client that closes."""
    store = open_store()
    drive(store.acquire(claim(), queue=False))
    ticket = drive(store.acquire(claim(), queue=True))
    threading.Timer(0.1, lambda: ticket.inbox.deliver(RuntimeError("closed"))).start()
    began = time.monotonic()
    drive(store.wait(ticket, 10))
    assert time.monotonic() - began < 1


def test_asyncio_waiters_leave_the_loop_alone(path: Path, claim: Any) -> None:
    """30 tasks wait on one loop; the loop turns, cancelled leaders are replaced, and each is granted in order."""

    async def main() -> None:
        store = SQLiteStore.from_url(f"sqlite:///{path}", runtime=Asyncio(), namespace="test")
        grant = await store.acquire(claim(), queue=False)
        tickets = [await store.acquire(claim(waiter_ttl=30.0), queue=True) for _ in range(30)]
        order: list[int] = []

        async def wait(index: int) -> None:
            ticket = tickets[index]
            while not isinstance(ticket.inbox.peek(), Grant):
                await store.wait(ticket, 20)
            order.append(index)
            store.leave(ticket)
            await store.release(ticket.inbox.peek())

        tasks = [asyncio.create_task(wait(index)) for index in range(30)]
        longest = 0.0
        for _ in range(100):
            began = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - began)
        for index in (0, 1, 7):
            tasks[index].cancel()
            await asyncio.sleep(0.01)
            await store.abandon(tickets[index].claim, tombstone=True)
        await store.release(grant)
        await asyncio.wait(tasks, timeout=20)
        assert order == [index for index in range(30) if index not in {0, 1, 7}]
        assert longest < 0.1
        await store.close()

    asyncio.run(main())


def test_changed_hears_of_a_commit(open_store: Any) -> None:
    store, other = open_store(), open_store()
    version = drive(store.put("k", b"1"))
    assert drive(store.changed("k", 0, 5)) == version
    began = time.monotonic()
    assert drive(store.changed("k", version, 0.2)) == version
    assert 0.15 < time.monotonic() - began < 1
    threading.Timer(0.1, lambda: drive(other.put("k", b"2"))).start()
    began = time.monotonic()
    assert drive(store.changed("k", version, 5)) > version
    assert time.monotonic() - began < 0.5
    threading.Timer(0.1, lambda: drive(store.delete("k"))).start()
    assert drive(store.changed("k", drive(store.get("k")).version, 5)) == 0


def test_changed_hears_of_the_end_of_a_ttl(open_store: Any) -> None:
    store = open_store()
    version = drive(store.put("k", b"1", ttl=0.3))
    assert drive(store.changed("k", version, 5)) == 0


def test_clients_take_turns(path: Path) -> None:
    """FIFO between clients of one process: who gives the lock back stands behind everybody who waited.

    Nobody gives it back before all who have turns left stand in line, so how busy the machine is changes nothing.
    """
    clients, rounds = 4, 8
    turns: list[int] = []
    finished: list[int] = []

    def all_wait(client: locksmith.Client) -> bool:
        return len(client.inspect("turn").waiters) == clients - 1 - len(finished)

    def work(me: int) -> None:
        with locksmith.connect(f"sqlite:///{path}", namespace="test") as client:
            lock = client.lock("turn")
            for number in range(rounds):
                with lock.acquire(wait=50):
                    turns.append(me)
                    eventually(lambda: all_wait(client), within=50)
                    if number == rounds - 1:
                        finished.append(me)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns[:clients]) == list(range(clients))
    assert turns == turns[:clients] * rounds
