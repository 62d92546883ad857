"""The order of claims: by a counter of 32 bits that turns over, and who wakes up when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from testkit.replies import granted, queued

from locksmith.store import Grant, Waiting
from locksmith_zookeeper import line

OWNER = "a" * 32


def node(sequence: int, owner: str = OWNER, permits: int = 1, limit: int = 1) -> str:
    return f"{owner}-{'0' * 8}-{permits}-{limit}-{sequence:010d}"


@pytest.mark.parametrize(
    "sequences",
    [
        [3],
        [0, 1, 2],
        [9, 10, 100],
        [2147483646, 2147483647, -2147483648, -2147483647],
        [-5, -1, 0, 1],
        [-2147483648, -1],
    ],
)
def test_the_counter_turns_over(sequences: list[int]) -> None:
    places = line.in_order(node(sequence) for sequence in sorted(sequences, key=str))
    assert [place.node for place in places] == [node(sequence) for sequence in sequences]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 2**20), min_size=1, max_size=20), st.randoms())
def test_wherever_the_counter_stands_the_order_is_that_of_creation(
    first: int, steps: list[int], random: object
) -> None:
    counters = [first]
    for step in steps:
        counters.append(counters[-1] + step)
    signed = [(counter + 2**31) % 2**32 - 2**31 for counter in counters]
    nodes = [node(sequence) for sequence in signed]
    mixed = list(nodes)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert [place.node for place in line.in_order(mixed)] == nodes


def test_what_is_not_ours_is_left_out() -> None:
    assert line.in_order(["lock-0000000001", "x", node(7)[:-3], node(7)]) == [line.Place(node(7), OWNER, 1, 1)]


@pytest.mark.zookeeper
def test_a_line_across_the_turn_of_the_counter_is_served_in_order(face, store, claim, looker, namespace) -> None:
    """Nodes made by hand with the counter's last numbers; the next ones come from the server, and count on from 0."""
    held = granted(face.run(store.acquire(claim(), queue=False)))
    parent = held.state.parent
    value = looker.get(held.state.path)[0]
    ahead = [node(sequence, f"{at}" * 32) for at, sequence in enumerate([-4, -3])]
    for name in ahead:
        looker.create(f"{parent}/{name}", value, ephemeral=True)
    assert face.run(store.release(held))
    ticket = queued(face.run(store.acquire(claim(), queue=True)))
    for name in ahead:
        (word,) = face.run(store.beat([], [ticket], within=5.0))
        assert isinstance(word, Waiting)
        looker.delete(f"{parent}/{name}")
    face.run(store.wait(ticket, 10.0))
    assert isinstance(ticket.inbox.peek(), Grant)


@pytest.mark.zookeeper
def test_a_release_wakes_the_next_one_and_nobody_else(face, store, claim, zookeeper_server) -> None:
    """No herd: each waiter for a lock watches the node before its own, and the server keeps one watch for each."""
    held = granted(face.run(store.acquire(claim(), queue=False)))
    tickets = [queued(face.run(store.acquire(claim(), queue=True))) for _ in range(5)]
    asked = []
    for ticket in tickets:
        waiter = store._waiters._waiting[ticket.claim.owner]
        ask = waiter.ask
        waiter.ask = lambda ticket=ticket, ask=ask: (asked.append(ticket), ask())  # type: ignore[method-assign,misc]
    assert face.run(store.release(held))
    face.run(store.wait(tickets[0], 10.0))
    assert isinstance(tickets[0].inbox.peek(), Grant)
    assert asked == tickets[:1]


@pytest.mark.zookeeper
def test_a_semaphore_wakes_the_first_in_line_and_by_its_mark_the_next(face, store, claim) -> None:
    """Whoever is behind the first learns of its turn from the mark of its predecessor: nobody polls, nobody beats."""
    holders = [granted(face.run(store.acquire(claim(limit=2), queue=False))) for _ in range(2)]
    tickets = [queued(face.run(store.acquire(claim(limit=2), queue=True))) for _ in range(2)]
    for holder in holders:
        assert face.run(store.release(holder))
    for ticket in tickets:
        face.run(store.wait(ticket, 10.0))
        assert isinstance(ticket.inbox.peek(), Grant)
