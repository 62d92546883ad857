"""Slots: the moments, by the store's clock, at which limited calls may begin, and what a message says of its own.

A slot is good for one beginning, at its time or a little later. A message that comes back much later (its worker was
down, or others stood before it in the queue) gets another one: the calls of a whole outage would begin together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from locksmith.client import Client
from locksmith.pacing import Rate, Slot
from locksmith.recipes.rates import place_of
from locksmith.runtime import drive

HEADER: Final = "locksmith_slot"
FRESH: Final = 10.0
"""Seconds for which a look at the store's clock is good: the clocks of two hosts drift apart by less than 1 ms."""
_PROBE: Final = (Rate(1_000_000, 1),)
_CLOCK: Final = place_of("locksmith.celery clock", None)
_SHORTEST: Final = 0.25
_LONGEST: Final = 15.0


@dataclass(frozen=True, slots=True)
class Pass:
    """What a message of a limited call carries along."""

    at: int = 0
    """Its slot: microseconds since 1970 of the store's clock; 0: it has none."""
    missed: int = 0
    """How many slots it came too late for."""
    tries: int = 0
    """How often it was put off for want of a permit, or of an answer from the store."""

    def dump(self, call: tuple[str, int]) -> dict[str, Any]:
        """As the header of a message has it; `call`: its task id, and which try it is."""
        # A retry takes the headers of the message before it along, and begins with a slot of its own.
        return {"at": self.at, "missed": self.missed, "tries": self.tries, "of": list(call)}


def of(headers: Mapping[str, Any], call: tuple[str, int]) -> Pass:
    """What a message carries; an empty one where that is of another call, or of an earlier try."""
    told = headers.get(HEADER)
    if not isinstance(told, dict) or told.get("of") != list(call):
        return Pass()
    return Pass(int(told.get("at", 0)), int(told.get("missed", 0)), int(told.get("tries", 0)))


def grace(rates: tuple[Rate, ...], missed: int) -> float:
    """Seconds after its slot at which a call may still begin: a quarter of a window; more after each slot it missed.

    Growing, or a call would never begin where the way through the queue takes longer than that.
    """
    window = min(max(min(rate.period for rate in rates) / 4, _SHORTEST), _LONGEST)
    return float(window * 2 ** min(missed, 30))


class StoreClock:
    """The clock of a store, in one process: never ahead, and behind by less than a request takes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._offset = 0.0
        self._read_at: float | None = None

    def learn(self, slot: Slot) -> Slot:
        """Every decision tells the time as well. Called when the answer has come, so this is behind."""
        now = time.monotonic()
        self._offset, self._read_at = slot.at / 1e6 - slot.delay - now, now
        return slot

    def now(self) -> float:
        """Seconds since 1970. Raises StoreError."""
        if self._read_at is None or time.monotonic() - self._read_at > FRESH:
            self.client._engine.refuse_unusable()
            # A limit that is never reached, for the time that its answer tells.
            self.learn(drive(self.client._engine.store.pace(_CLOCK, _PROBE, 1, at_most=0.0)))
        return self._offset + time.monotonic()
