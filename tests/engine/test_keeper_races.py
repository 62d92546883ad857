"""The keeper against the threads it works for: nobody spins, starves, renews what is over or is told late."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import locksmith
from locksmith.engine.core import Engine
from locksmith.errors import ClientClosed, StoreUnavailable
from locksmith.runtime import drive
from locksmith.store import Ticket
from locksmith.testing import eventually

Client = locksmith.Client


@pytest.fixture
def client() -> Iterator[Client]:
    with locksmith.connect(f"memory://races-{uuid.uuid4().hex}", ttl=1.0, waiter_ttl=0.3) as client:
        yield client


def engine_of(client: Client) -> Engine:
    return client._engine


def test_a_waiter_that_leaves_while_its_next_word_is_planned_leaves_nothing_to_do(client: Client) -> None:
    """What was planned for a ticket that nobody has any more was due for ever: the keeper went round and round."""
    keeper = engine_of(client).keeper
    schedule, planning, left = keeper._schedule, threading.Event(), threading.Event()

    def interrupted(ticket: Ticket) -> float:
        if threading.current_thread().name == "locksmith-keeper":
            planning.set()
            left.wait(5)
        return schedule(ticket)

    keeper._schedule = interrupted  # type: ignore[method-assign]
    lease = client.lock("n", ttl=30).acquire()
    waiter = threading.Thread(target=lambda: client.lock("n").acquire(wait=5).release())
    waiter.start()
    assert planning.wait(5)
    lease.release()
    waiter.join(5)
    left.set()
    eventually(lambda: not keeper.tickets)
    time.sleep(0.2)  # the planned moment passes
    rounds: list[None] = []
    keeper._end_what_ended = lambda: rounds.append(None)  # type: ignore[method-assign]
    time.sleep(0.2)
    assert len(rounds) < 10


def test_debts_that_hang_do_not_delay_the_end_of_a_lease(client: Client) -> None:
    """P4: on_lost fires at the deadline, give or take one request, however many claims are owed to a dead store."""
    store: Any = engine_of(client).store

    async def silent(*args: Any, **options: Any) -> Any:
        time.sleep(min(options.get("within", 0.3), 0.3))  # noqa: ASYNC251 - a request on a thread
        raise StoreUnavailable("no answer")

    lost: list[float] = []
    lease = client.lock("kept").acquire()
    began = time.monotonic()
    lease.on_lost(lambda: lost.append(time.monotonic() - began))
    others = [client.lock(f"given back {number}").acquire() for number in range(8)]
    store.release = store.abandon = store.beat = silent
    keeper = engine_of(client).keeper
    for other in others:
        keeper.drop(other._hold)
        keeper.owe(other._hold.grant.claim)
    eventually(lambda: bool(lost))
    assert lost[0] < 1.0 + 0.3 + 0.25
    del store.release, store.abandon, store.beat


def test_a_beat_under_way_does_not_shorten_a_lease_that_lingers(client: Client) -> None:
    """It arrived after the word that made the lease linger, and armed the whole ttl again."""
    store: Any = engine_of(client).store
    beat, under_way = store.beat, threading.Event()

    async def slow(grants: Any, tickets: Any, *, within: float) -> Any:
        if threading.current_thread().name == "locksmith-keeper":
            under_way.set()
            time.sleep(0.2)  # noqa: ASYNC251 - a request on a thread
        return await beat(grants, tickets, within=within)

    store.beat = slow
    lease = client.lock("n").acquire()
    assert under_way.wait(5)
    drive(engine_of(client).linger(lease._hold, 30.0))
    time.sleep(0.3)
    assert client.inspect("n").holders[0].expires_in > 25


def test_nothing_is_renewed_after_a_close_that_was_interrupted() -> None:
    """P7: Ctrl-C while closing left a keeper at work that nobody could stop, and names that nobody could have."""
    url = f"memory://races-{uuid.uuid4().hex}"
    client = locksmith.connect(url, ttl=0.3)
    leases = [client.lock(name).acquire() for name in "ab"]
    store: Any = engine_of(client).store

    async def interrupted(grant: Any) -> bool:
        raise KeyboardInterrupt

    store.release = interrupted
    with pytest.raises(KeyboardInterrupt):
        client.close()
    with locksmith.connect(url) as other:
        assert other.lock("b").acquire(wait=2)
    assert not leases[1].held


def test_a_loss_is_told_where_no_thread_can_be_started(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: on_lost was silently left out, as a process at its limit of threads would have seen it."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    told: list[str] = []
    lease = client.lock("n").acquire()
    lease.on_lost(lambda: told.append("lost"))
    eventually(lambda: engine_of(client)._run is not None)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    client.evict("n", lease.token)
    eventually(lambda: told == ["lost"])


def test_a_request_under_way_at_a_close_says_that_the_client_was_closed() -> None:
    """Not that the name was taken: AcquireTimeout invites to try again."""
    client = locksmith.connect(f"memory://races-{uuid.uuid4().hex}")
    store: Any = engine_of(client).store
    acquire, sent, closed = store.acquire, threading.Event(), threading.Event()

    async def slow(claim: Any, *, queue: bool) -> Any:
        sent.set()
        closed.wait(5)
        return await acquire(claim, queue=queue)

    store.acquire = slow
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            client.lock("n").acquire()
        except BaseException as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert sent.wait(5)
    client.close()
    closed.set()
    asking.join(5)
    assert [type(error) for error in raised] == [ClientClosed]
