"""Cells: durable before the answer, guarded in the same transaction."""

from __future__ import annotations

from typing import Any

import pytest

from locksmith.errors import CellConflict, CellTooLarge, LeaseLost
from locksmith.runtime import drive
from locksmith.store import ABSENT, MAX_CELL_BYTES


def test_a_cell_is_on_the_disk_when_put_returns(open_store: Any, claim: Any) -> None:
    """synchronous=FULL for the commit of a cell, NORMAL for everything else."""
    store = open_store()
    grant = drive(store.acquire(claim(), queue=False))
    seen: list[str] = []
    store._desk._link.raw.set_trace_callback(seen.append)
    drive(store.put("k", b"v", guard=grant))
    assert seen[0] == "PRAGMA synchronous = FULL"
    assert seen[1] == "BEGIN IMMEDIATE"
    assert seen[-2:] == ["COMMIT", "PRAGMA synchronous = NORMAL"]
    store._desk._link.raw.set_trace_callback(None)
    assert store._desk._link.raw.execute("PRAGMA synchronous").fetchone() == (1,)


def test_another_process_reads_it(open_store: Any, start_worker: Any) -> None:
    drive(open_store().put("key with spaces/ü", "wört".encode()))
    assert start_worker("read_cell", "key with spaces/ü").communicate()[0].strip() == "wört"
    assert start_worker("read_cell", "k").communicate()[0].strip() == "None"


@pytest.mark.parametrize("limit", [1, 4])
def test_a_guard_is_judged_with_the_write(open_store: Any, clock: Any, claim: Any, limit: int) -> None:
    store = open_store(clock=clock)
    grant = drive(store.acquire(claim(ttl=5.0, limit=limit), queue=False))
    version = drive(store.put("k", b"1", guard=grant))
    clock.advance(5.0)
    with pytest.raises(LeaseLost):
        drive(store.put("k", b"2", guard=grant))
    with pytest.raises(LeaseLost):
        drive(store.delete("k", guard=grant))
    assert drive(store.get("k")).version == version
    newer = drive(store.acquire(claim(limit=limit), queue=False))
    with pytest.raises(LeaseLost):
        drive(store.put("k", b"2", guard=grant))
    assert drive(store.delete("k", guard=newer)) is True


def test_conflicts_say_what_was_found(open_store: Any) -> None:
    store = open_store()
    version = drive(store.put("k", b"1"))
    with pytest.raises(CellConflict) as caught:
        drive(store.put("k", b"2", expect=ABSENT))
    assert caught.value.found == version
    with pytest.raises(CellConflict) as caught:
        drive(store.put("other", b"2", expect=7))
    assert caught.value.found is None
    with pytest.raises(CellConflict):
        drive(store.delete("k", expect=version - 1))


def test_a_cell_has_a_largest_size(open_store: Any) -> None:
    store = open_store()
    drive(store.put("k", b"x" * MAX_CELL_BYTES))
    with pytest.raises(CellTooLarge):
        drive(store.put("k", b"x" * (MAX_CELL_BYTES + 1)))


def test_an_expired_cell_is_absent_for_every_verb(open_store: Any, clock: Any) -> None:
    store = open_store(clock=clock)
    first = drive(store.put("k", b"1", ttl=1.0))
    clock.advance(1.0)
    assert drive(store.get("k")) is None
    assert drive(store.delete("k")) is False
    assert drive(store.put("k", b"2", expect=ABSENT)) > first
