"""What is asked about a waited name, and what is made of the answers. No server: requests and replies as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from locksmith.errors import StoreError
from locksmith.nodes import Node
from locksmith.runtime import Blocking
from locksmith.store import Claim, Gone, Grant, Inbox, Ticket
from locksmith_consul.board import Board
from locksmith_consul.claims import nodes_of, written
from locksmith_consul.http import Reply
from locksmith_consul.keys import Keys

Make = Callable[..., Claim]


class Line:
    """A board, and the claims that the server is said to have."""

    def __init__(self, claim: Make) -> None:
        self.board = Board(Keys("t"), "", lambda ticket, session: Grant(ticket.claim, ticket.number, 30.0, 0.0))
        self._claim = claim
        self.claims: dict[int, Claim] = {}

    def add(self, order: int, **settings: Any) -> Claim:
        self.claims[order] = self._claim(**settings)
        return self.claims[order]

    def ticket(self, order: int) -> Ticket:
        ticket = Ticket(self.claims[order], order, 0.0, Inbox(Blocking().event()))
        self.board.join(ticket)
        return ticket

    def entries(self) -> list[dict[str, Any]]:
        return [
            {
                "Key": f"t/lock/n/{claim.owner}",
                "Value": written(claim, 30.0, 0.0),
                "CreateIndex": order,
                "Session": "s",
            }
            for order, claim in self.claims.items()
        ]

    def nodes(self) -> list[Node]:
        return nodes_of(self.entries())

    def listing(self, index: int) -> Reply:
        return Reply(200, f"\r\nx-consul-index: {index}".encode(), json.dumps(self.entries()))


@pytest.fixture
def line(claim: Make) -> Line:
    return Line(claim)


def absent(index: int) -> Reply:
    return Reply(404, f"\r\nx-consul-index: {index}".encode(), "")


def test_of_an_exclusive_name_only_the_claim_ahead_is_watched(line: Line) -> None:
    """A release wakes the next in line and nobody else."""
    line.add(1)
    ahead = line.add(2)
    line.add(3)
    ticket = line.ticket(3)
    watch = line.board.watch("n", line.nodes(), 3)
    ask = next(watch)
    assert ask.target.startswith(f"/v1/kv/t/lock/n/{ahead.owner}?index=2&wait=")
    assert 0 < ask.seconds < ticket.claim.ttl / 2
    still = watch.send(Reply(200, b"\r\nx-consul-index: 2", "[]"))  # nothing happened within its time
    assert still.target == ask.target
    del line.claims[2]
    ask = watch.send(absent(9))
    assert "?recurse" in ask.target
    assert ask.seconds == 0
    ask = watch.send(line.listing(9))
    assert f"/{line.claims[1].owner}?index=1&" in ask.target
    assert ticket.inbox.peek() is None
    del line.claims[1]
    assert "?recurse" in watch.send(absent(11)).target
    with pytest.raises(StopIteration):
        watch.send(line.listing(11))
    assert isinstance(ticket.inbox.peek(), Grant)


def test_of_several_permits_the_whole_line_is_watched(line: Line) -> None:
    line.add(1, permits=2, limit=3)
    line.add(2, permits=2, limit=3)
    ticket = line.ticket(2)
    watch = line.board.watch("n", line.nodes(), 2)
    ask = next(watch)
    assert "/t/lock/n/?recurse&consistent&index=2&wait=" in ask.target
    line.add(5, permits=1, limit=3)
    assert "&index=5&" in watch.send(line.listing(5)).target
    del line.claims[1]
    with pytest.raises(StopIteration):
        watch.send(line.listing(7))
    assert isinstance(ticket.inbox.peek(), Grant)


def test_an_index_that_goes_backwards_begins_anew(line: Line) -> None:
    """A server restored from a snapshot counts from somewhere else; waiting for the old index would be for ever."""
    line.add(1, permits=2, limit=3)
    line.add(2, permits=2, limit=3)
    line.ticket(2)
    watch = line.board.watch("n", line.nodes(), 50)
    assert "&index=50&" in next(watch).target
    assert "&index=0&" in watch.send(line.listing(20)).target
    assert "&index=20&" in watch.send(line.listing(20)).target


def test_who_lost_its_place_is_told_and_who_has_just_come_is_not(line: Line) -> None:
    """A listing that was asked for before somebody joined says nothing about them."""
    line.add(1)
    line.add(2)
    lost = line.ticket(2)
    watch = line.board.watch("n", None, 0)
    next(watch)
    asked = line.listing(4)
    line.add(6)
    late = line.ticket(6)
    del line.claims[2]
    before = Reply(200, b"\r\nx-consul-index: 4", json.dumps(json.loads(asked.body)[:1]))
    ask = watch.send(before)
    assert isinstance(lost.inbox.peek(), Gone)
    assert late.inbox.peek() is None
    assert f"/{line.claims[1].owner}?index=1&" in ask.target


def test_nobody_waits_any_more(line: Line) -> None:
    line.add(1)
    line.add(2)
    ticket = line.ticket(2)
    watch = line.board.watch("n", line.nodes(), 2)
    next(watch)
    line.board.forget("n", ticket.claim.owner, ticket)
    ask = watch.send(Reply(200, b"\r\nx-consul-index: 2", "[]"))
    assert "?recurse" in ask.target
    with pytest.raises(StopIteration):
        watch.send(line.listing(2))
    assert line.board._tickets == {}


def test_an_answer_that_cannot_be_used(line: Line) -> None:
    line.add(1)
    line.add(2)
    line.ticket(2)
    for reply in (Reply(500, b"", "No cluster leader"), Reply(404, b"", "page not found"), Reply(200, b"", "<html>")):
        watch = line.board.watch("n", None, 0)
        next(watch)
        with pytest.raises(StoreError):
            watch.send(reply)
