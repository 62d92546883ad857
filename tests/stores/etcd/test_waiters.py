"""What the end of a key means to those who wait, in whatever order it is told. No server."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from itertools import permutations
from types import SimpleNamespace
from typing import Any, cast

import pytest

from locksmith.errors import StoreUnavailable
from locksmith.nodes import Node
from locksmith.runtime import Blocking, drive
from locksmith.store import Claim, Gone, Grant, Inbox, Ticket
from locksmith.testing import eventually
from locksmith_etcd.hub import Hub
from locksmith_etcd.leases import Lease
from locksmith_etcd.waiters import Place, Waiters

Make = Callable[..., Claim]
NAME = b"locksmith//lock/n/"


def node(claim: Claim, order: int) -> Node:
    return Node(order, order, claim.name, claim.owner, claim.permits, claim.limit, claim.ttl, 0.0, "{}")


def ticket_of(claim: Claim, number: int) -> Ticket:
    place = Place(NAME, NAME + claim.owner.encode(), Lease(7, 30.0, 100.0))
    return Ticket(claim, number, 100.0, Inbox(Blocking().event()), state=place)


def key(claim: Claim) -> bytes:
    return NAME + claim.owner.encode()


def test_the_turn_comes_when_the_last_one_ahead_ends(claim: Make) -> None:
    ahead, waiters = [claim(), claim()], Waiters()
    ticket = ticket_of(claim(), 12)
    waiters.bind(ticket, [node(ahead[0], 10), node(ahead[1], 11)])
    waiters.ended([(key(ahead[1]), 20)])
    assert ticket.inbox.peek() is None
    waiters.ended([(key(ahead[0]), 21)])
    grant = ticket.inbox.peek()
    assert isinstance(grant, Grant)
    assert (grant.token, grant.ttl, grant.since, grant.confirmed) == (12, 30.0, 100.0, True)


def test_a_lease_that_ends_with_its_holder_and_its_waiter_grants_nothing(claim: Make) -> None:
    """One revision takes all keys of a lease, in the order of the keys: our own end must not be told too late."""
    holder, mine = claim(), claim()
    for told in permutations([(key(holder), 20), (key(mine), 20)]):
        waiters, ticket = Waiters(), ticket_of(mine, 12)
        waiters.bind(ticket, [node(holder, 10)])
        waiters.ended(told)
        assert isinstance(ticket.inbox.peek(), Gone)


def test_ends_that_are_told_before_the_reply_count(claim: Make) -> None:
    holder, mine, waiters = claim(), claim(), Waiters()
    waiters.expect(NAME, mine.owner)
    waiters.ended([(key(holder), 20)])
    ticket = ticket_of(mine, 12)
    waiters.bind(ticket, [node(holder, 10)])
    assert isinstance(ticket.inbox.peek(), Grant)


@pytest.mark.parametrize("revision", [9, 10])
def test_an_older_end_of_the_same_owner_does_not_count(claim: Make, revision: int) -> None:
    """Who was passed over and queued again stands there under a newer revision."""
    holder, mine, waiters = claim(), claim(), Waiters()
    waiters.expect(NAME, mine.owner)
    waiters.ended([(key(holder), revision), (key(mine), revision)])
    ticket = ticket_of(mine, 12)
    waiters.bind(ticket, [node(holder, 10)])
    assert ticket.inbox.peek() is None


def test_permits_are_counted(claim: Make) -> None:
    big, small, mine, waiters = claim(permits=3, limit=4), claim(limit=4), claim(permits=2, limit=4), Waiters()
    ticket = ticket_of(mine, 12)
    waiters.bind(ticket, [node(big, 10), node(small, 11)])
    waiters.ended([(key(small), 20)])
    assert ticket.inbox.peek() is None
    waiters.ended([(key(big), 21)])
    assert isinstance(ticket.inbox.peek(), Grant)
    waiters.leave(ticket)
    assert not waiters.any()


def test_who_comes_while_the_reader_is_about_to_end_gets_another_one() -> None:
    """It was found alive and not started again: nobody watched until the next waiter came."""
    opened, coming = [], []

    class Quiet:
        now = staticmethod(lambda: 0.0)

        async def watch(self, *_: Any) -> AsyncGenerator[Any, None]:
            opened.append(1)
            yield SimpleNamespace(created=True, canceled=False, events=[])

    async def look(*_: Any) -> list[Any]:
        return []

    runtime = Blocking()
    hub = Hub(cast(Any, Quiet()), runtime, b"lock/", look)
    is_needed = hub._is_needed

    def nobody() -> bool:
        if not opened or coming or hub.ready:
            return is_needed()
        late = threading.Thread(target=lambda: drive(hub.start(runtime.event(), 10.0)))
        coming.append(late)
        late.start()
        late.join(0.1)
        return False

    vars(hub)["_is_needed"] = nobody
    drive(hub.start(runtime.event(), 10.0))
    eventually(lambda: bool(coming) and coming[0].ident is not None, within=10)
    coming[0].join(10)
    assert len(opened) >= 2
    drive(hub.close())


def test_those_who_started_to_wait_in_vain_are_forgotten() -> None:
    """Each of them stayed noted for as long as the server was away, and kept the reader awake."""

    class Dead:
        async def watch(self, *_: Any) -> AsyncGenerator[Any, None]:
            raise StoreUnavailable("nobody there")
            yield

    async def look(*_: Any) -> list[Any]:
        return []

    runtime = Blocking()
    hub = Hub(cast(Any, Dead()), runtime, b"lock/", look)
    for _ in range(3):
        drive(hub.start(runtime.event(), 0.01))
    assert hub._starting == []
    drive(hub.close())
