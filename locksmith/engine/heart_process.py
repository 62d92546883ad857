"""`heartbeat="process"`, the child: reads orders from its standard input, renews, writes what it was answered.

It ends when the pipe ends, which is when the parent is gone, however it went; a heartbeat that outlives its process
would keep a dead holder's lease for ever. (PR_SET_PDEATHSIG would fire when the *thread* that started us ends.)
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import signal
import sys
from ctypes import c_double
from typing import IO, Any

from locksmith.engine.heart import GONE, SLOTS
from locksmith.engine.hold import Hold
from locksmith.engine.keeper import Keeper
from locksmith.registry import open_store
from locksmith.runtime import Blocking
from locksmith.store import Claim, Grant, Lost, Word


class _Published(Hold):
    """A hold whose answered renewals are written where the parent reads them."""

    __slots__ = ("_slot", "_slots")

    def __init__(self, grant: Grant, runtime: Blocking, slots: Any, slot: int) -> None:
        super().__init__(grant, runtime.clock.now, None, None)
        self._slots = slots
        self._slot = slot

    def renewed(self, ttl: float, since: float) -> bool:
        """See Hold.renewed."""
        self._slots[self._slot] = since
        return super().renewed(ttl, since)


class _Beater(Keeper):
    """A keeper that tells the parent what the store says is lost."""

    def _hear_hold(self, hold: Hold, word: Word, took: float) -> None:
        if isinstance(word, Lost) and isinstance(hold, _Published):
            hold._slots[hold._slot] = GONE
        super()._hear_hold(hold, word, took)


def main(orders: IO[str], slots: Any) -> None:
    """Serve until the orders end."""
    hello = json.loads(orders.readline())
    runtime = Blocking()
    keeper = _Beater(open_store(hello["url"], runtime=runtime, namespace=hello["namespace"]), runtime, [])
    runtime.background(keeper.run, "locksmith-heart")
    for line in orders:
        order = json.loads(line)
        if "keep" in order:
            claim = Claim(*order["claim"])
            # Counted from now, not from the grant: a child that starts late on a busy machine must try all the same.
            # What it believes is not asked; the store answers, and the parent counts from the beat that was answered.
            now = runtime.clock.now()
            hold = _Published(Grant(claim, order["token"], order["ttl"], now), runtime, slots, order["keep"])
            hold.renew_due = max(now, order["since"] + order["ttl"] / 3)
            hold.ends_at = order["ends_at"]
            keeper.keep(hold)
        elif (dropped := keeper.holds.get(order["drop"])) is not None:
            keeper.drop(dropped)


if __name__ == "__main__":
    # Ctrl-C and a supervisor's TERM to the group are the parent's to answer; we end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    shared = (c_double * SLOTS).from_buffer(mmap.mmap(int(sys.argv[1]), SLOTS * 8))
    main(sys.stdin, shared)
    # Not through atexit: what is held is the parent's, and nothing of it may be released or renewed any more.
    os._exit(0)
