"""What each verb costs: the statements it sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from locksmith.runtime import drive
from locksmith.store import Grant, Held, Ticket

# A refused try: the fast statement, begin, name, head, place of this owner, commit.
LINE_TRY = 6
# A release that hands over: the fast statement, begin, name, head; once it is free: head, its place given up, name
# saved, commit; and the next head where there is one.
LINE_RELEASE = 8
WIDE_TAKE = 7
WIDE_GIVE = 9


class Trace(list[str]):
    """The first words of the statements since the last `take`."""

    def take(self) -> list[str]:
        seen = [" ".join(statement.split()[:2]).upper() for statement in self]
        self.clear()
        return seen


@pytest.fixture
def store(open_store: Any, claim: Any) -> Any:
    store = open_store()
    drive(store.acquire(claim("warm"), queue=False))
    return store


@pytest.fixture
def trace(store: Any) -> Iterator[Trace]:
    seen = Trace()
    raw = store._desk._link.raw
    raw.set_trace_callback(seen.append)
    yield seen
    raw.set_trace_callback(None)


def test_an_uncontended_lock_is_one_statement_each_way(store: Any, trace: Trace, claim: Any) -> None:
    grant = drive(store.acquire(claim(), queue=True))
    assert trace.take() == ["INSERT INTO"]
    assert drive(store.release(grant)) is True
    assert trace.take() == ["UPDATE TEST_LEASE"]
    drive(store.acquire(claim(), queue=True))
    assert trace.take() == ["INSERT INTO"], "also when the row is there already"


def test_an_expired_holder_without_lock_delay_is_replaced_in_one_statement(
    open_store: Any, clock: Any, claim: Any
) -> None:
    store = open_store(clock=clock)
    first = drive(store.acquire(claim(ttl=1.0), queue=False))
    clock.advance(1.0)
    seen: list[str] = []
    store._desk._link.raw.set_trace_callback(seen.append)
    second = drive(store.acquire(claim(), queue=False))
    store._desk._link.raw.set_trace_callback(None)
    assert len(seen) == 1
    assert second.token > first.token
    assert drive(store.release(first)) is False


def test_the_beat_of_exclusive_grants_is_one_transaction_with_one_statement_each(
    store: Any, trace: Trace, claim: Any
) -> None:
    grants = [drive(store.acquire(claim(f"n{i}"), queue=False)) for i in range(20)]
    trace.clear()
    words = drive(store.beat(grants, [], within=5))
    assert all(isinstance(word, Held) for word in words)
    seen = trace.take()
    assert seen[0] == "BEGIN IMMEDIATE"
    assert seen[21] == "COMMIT"
    assert len([word for word in seen if word.startswith("UPDATE")]) >= 20
    assert len(seen) <= 22 + 10, "the sweep may follow, now and then"


@pytest.mark.parametrize("others", [1, 60])
def test_the_cost_does_not_grow_with_the_line(store: Any, claim: Any, others: int, request: Any) -> None:
    """A release that hands over, and a try that is refused, look at the head of the line only."""
    drive(store.acquire(holder := claim("long"), queue=False))
    grant = Grant(holder, drive(store.inspect("long")).token, 30.0, 0.0)
    for _ in range(others):
        assert isinstance(drive(store.acquire(claim("long"), queue=True)), Ticket)
    seen: list[str] = []
    store._desk._link.raw.set_trace_callback(seen.append)
    assert drive(store.acquire(claim("long"), queue=False)) is None
    refused = len(seen)
    seen.clear()
    assert drive(store.release(grant))
    store._desk._link.raw.set_trace_callback(None)
    assert len(seen) - (others > 1) == LINE_RELEASE, seen
    assert refused == LINE_TRY


@pytest.mark.parametrize("others", [1, 200])
def test_the_cost_does_not_grow_with_holders(store: Any, claim: Any, others: int) -> None:
    for _ in range(others):
        assert drive(store.acquire(claim("wide", limit=500), queue=False))
    seen: list[str] = []
    store._desk._link.raw.set_trace_callback(seen.append)
    grant = drive(store.acquire(claim("wide", limit=500), queue=False))
    taken = len(seen)
    assert drive(store.release(grant))
    store._desk._link.raw.set_trace_callback(None)
    assert (taken, len(seen) - taken) == (WIDE_TAKE, WIDE_GIVE), seen


def test_every_lookup_uses_an_index(store: Any) -> None:
    """No statement about a name scans a table."""
    sql = store._desk.sql
    raw = store._desk._link.raw
    skipped = {"adopt", "sweep_news", "sweep_page", "set_version"}
    for word, text in vars(sql).items():
        if word in skipped or not isinstance(text, str):
            continue
        arguments: Any = [None] * text.count("?")
        if ":" in text:
            arguments = dict.fromkeys(("key", "wall", "now", "tomb", "after", "end", "era", "page"))
        plan = " / ".join(row[3] for row in raw.execute("EXPLAIN QUERY PLAN " + text, arguments))
        assert "SCAN test" not in plan.replace('"', ""), (word, plan)
        assert "TEMP B-TREE" not in plan or word == "holders", (word, plan)


def test_threads_share_one_connection(store: Any, claim: Any, path: Any) -> None:
    """However many threads work: one connection writes, and none is opened for them."""
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for i in range(30):
            grant = drive(store.acquire(claim(f"t{i}-{threading.get_ident()}"), queue=False))
            assert drive(store.release(grant))

    link = store._desk._link
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store._desk._link is link
    assert store._desk._poll_link is None
