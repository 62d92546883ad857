"""The rows that pace, against the algorithm; eras; and the forgetting of what nobody asks for."""

from __future__ import annotations

from typing import Any

import pytest
from testkit.paces import agree

from locksmith.pacing import parse
from locksmith.runtime import drive
from locksmith.store import Slot

DAILY = parse(["1/d"])


@pytest.mark.parametrize("seed", range(20))
def test_random_steps_agree_with_the_algorithm(seed: int, open_store: Any, clock: Any) -> None:
    """On a clock that the test moves, also back (which the host's own cannot be)."""
    agree(open_store(clock=clock), clock.wall, clock.advance, seed)


def test_the_wall_clock_may_jump(open_store: Any, clock: Any) -> None:
    """Forward or back: the host's clock counts, and slots are told as if the wall clock had not jumped."""
    store = open_store(clock=clock)
    first = drive(store.pace("k", DAILY, 1, at_most=0.0))
    assert first == Slot(True, 0.0, clock.wall())
    for jump in (10**12, -(10**13)):
        clock.wall_micros += jump
        assert not drive(store.pace("k", DAILY, 1, at_most=0.0)).booked
    clock.advance(86_400)
    assert drive(store.pace("k", DAILY, 1, at_most=0.0)) == Slot(True, 0.0, first.at + 86_400_000_000)


@pytest.mark.parametrize("away", [10.0, 90_000.0, -5.0])
def test_after_a_reboot_the_wall_clock_says_how_much_time_has_passed(open_store: Any, clock: Any, away: float) -> None:
    """A day's limit holds across it; where the wall clock went back meanwhile, nobody waits longer than before."""
    store = open_store(clock=clock)
    assert drive(store.pace("k", DAILY, 1, at_most=0.0)).booked
    clock.era, clock.micros = 8, 3_000_000
    clock.wall_micros += round(away * 1e6)
    slot = drive(store.pace("k", DAILY, 1, at_most=86_400.0))
    assert slot == Slot(True, max(0.0, 86_400 - max(0.0, away)), slot.at)
    clock.advance(slot.delay)
    assert slot.at == clock.wall()


def test_what_is_not_asked_for_any_more_is_swept(open_store: Any, clock: Any) -> None:
    """Also where a client only paces, and so never beats."""
    store = open_store(clock=clock)
    for key, rates in (("old", parse(["70/s"])), ("daily", DAILY)):
        drive(store.pace(key, rates, 1, at_most=0.0))
    clock.advance(7200)
    store._swept_at -= 60
    drive(store.pace("new", parse(["70/s"]), 1, at_most=0.0))
    rows = store._desk.run(lambda link: link.cursor.execute("SELECT key FROM test_pace ORDER BY key").fetchall())
    assert rows == [("daily",), ("new",)]
