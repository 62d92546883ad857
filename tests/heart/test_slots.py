"""The shared memory between a process and its heart."""

from __future__ import annotations

from pathlib import Path

import locksmith
from locksmith.engine.heart import GONE


def test_what_is_late_about_one_lease_is_not_said_of_the_next(tmp_path: Path) -> None:
    """A beat under way at a release is answered "lost"; the slot had been given to the next lease, which then ended."""
    with locksmith.connect(f"sqlite:///{tmp_path}/heart.db", heartbeat="process") as client:
        heart = client._engine.heart
        assert heart is not None
        first = client.lock("first").acquire()
        slot = heart._used[first._hold.grant.claim.owner]
        first.release()
        second = client.lock("second").acquire()
        heart._slots[slot] = GONE  # the answer about the first one arrives
        second._hold.renew_due = 0.0
        second._hold.take_pulse(1.0)
        assert second.held
