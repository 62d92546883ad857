"""The clock that leases are judged by."""

from __future__ import annotations

import time

import pytest

from locksmith.runtime import SystemClock


def test_the_clock_is_the_one_that_counts_suspend() -> None:
    """Complaint of every laptop: CLOCK_MONOTONIC stands still in suspend, the wall clock is set by people."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("no CLOCK_BOOTTIME on this system")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = SystemClock().now()
    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_setting_the_wall_clock_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before = clock.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock.now() >= before
