"""One acquisition, and how long it may be believed in.

    valid_until = since + ttl * (1 - DRIFT) - GUARD

`since` is the local clock read before the last *answered* request was sent, so the store's own count, which began
later, cannot end earlier (Gray and Cheriton, "Leases", 1989; the margin is for clocks whose rates differ).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final

from locksmith.errors import InheritedLease, LeaseLost
from locksmith.runtime import Event
from locksmith.store import Grant

DRIFT: Final = 0.01
"""How much faster the store's clock may run than ours: promise P3 assumes no more than this."""
GUARD: Final = 0.002
"""Seconds taken off for the granularity of clocks and of servers' timers."""
CONFIRM_WITHIN: Final = 0.05
"""Seconds until a handed-over grant is confirmed; work that is done sooner releases, which confirms as well."""


class State(enum.Enum):
    """Where an acquisition is in its life. LOST, RELEASED and INHERITED are for good."""

    HELD = "held"
    RELEASING = "releasing"
    RELEASED = "released"
    LOST = "lost"
    INHERITED = "inherited"


def believe_until(ttl: float, since: float) -> float:
    """The local moment until when a store that was last heard of at `since` cannot have ended a lease of `ttl`."""
    return since + ttl * (1 - DRIFT) - GUARD


class Hold:
    """The engine's side of a lease: pure bookkeeping, driven by the keeper and asked by the user's threads."""

    __slots__ = (
        "acquired_at",
        "context",
        "ends_at",
        "failures",
        "farewell",
        "grant",
        "keeper",
        "lost_event",
        "now",
        "on_lost",
        "on_suspect",
        "pulse",
        "reason",
        "release_unknown",
        "renew_due",
        "state",
        "valid_until",
    )

    def __init__(
        self, grant: Grant, now: Callable[[], float], context: object, max_hold: float | None, keeper: object = None
    ) -> None:
        self.now = now
        self.grant = grant
        self.keeper = keeper
        self.context = context
        self.state = State.HELD
        self.reason = ""
        self.failures = 0
        self.release_unknown = False
        self.pulse: Callable[[], float | None] | None = None
        self.lost_event: Event | None = None
        self.on_lost: list[Callable[[], object]] = []
        self.on_suspect: list[Callable[[], object]] = []
        self.farewell: Callable[[], Coroutine[Any, Any, bool]] | None = None
        """What must have returned before this is given back; False where somebody else is at it."""
        since, ttl = grant.since, grant.ttl
        self.valid_until = believe_until(ttl, since)
        self.renew_due = since + ttl / 3
        self.acquired_at = since
        if not grant.confirmed:
            self.acquired_at = now()
            self.renew_due = min(self.renew_due, self.acquired_at + CONFIRM_WITHIN)
        self.ends_at = None if max_hold is None else self.acquired_at + max_hold
        if self.ends_at is not None:
            self.valid_until = min(self.valid_until, self.ends_at)

    @property
    def held(self) -> bool:
        """A comparison with the deadline, not a flag somebody must lower: right even if the keeper is starved (P4)."""
        if self.state is not State.HELD:
            return False
        if self.now() < self.valid_until:
            return True
        pulse = self.pulse
        if pulse is not None and self._believe_pulse(pulse()) != -math.inf and self.now() < self.valid_until:
            return True
        # Once anybody was told "no" it stays no, even if the reply to a renewal arrives a moment later (P7).
        ended = self.ends_at is not None and self.now() >= self.ends_at
        self.lose("its max_hold ended" if ended else "its deadline passed without a renewal")
        return False

    @property
    def suspect(self) -> bool:
        """Held, but the last renewal failed. Not a state: whoever renews could overwrite a loss seen meanwhile."""
        return bool(self.failures) and self.held

    def remaining(self) -> float:
        """Seconds until the deadline as known now; 0.0 where the lease is over."""
        return max(0.0, self.valid_until - self.now()) if self.held else 0.0

    def held_for(self) -> float:
        """Seconds it was held, or has been held so far: not beyond the moment until when it could be believed in."""
        return max(0.0, min(self.now(), self.valid_until) - self.acquired_at)

    def check(self) -> None:
        """Raises LeaseLost unless the lease can be trusted at this moment."""
        if not self.held:
            raise self.loss()

    def loss(self) -> LeaseLost:
        """The exception that says why this is not held any more."""
        name, token = self.grant.claim.name, self.grant.token
        if self.state is State.INHERITED:
            return InheritedLease(f"{name!r} is held by the process that forked this one: acquire it here")
        if self.state in (State.RELEASED, State.RELEASING):
            return LeaseLost(f"{name!r} was released before: acquire it again")
        return LeaseLost(f"{name!r} (token {token}) was lost: {self.reason}; stop, others may hold it now")

    def renewed(self, ttl: float, since: float) -> bool:
        """A beat was answered: move the deadline. False where the lease had ended meanwhile. Never moves it back."""
        if not self.held:
            return False
        self._believe(ttl, since)
        self.failures = 0
        self.grant = self.grant._replace(ttl=ttl, since=since, confirmed=True)
        self.renew_due = since + ttl / 3
        return True

    def failed(self, now: float) -> None:
        """A beat was not answered: try again soon, at growing intervals that still leave several tries.

        Towards the deadline they shrink: a store that comes back in time is asked in time.
        """
        self.failures += 1
        left = self.valid_until - now
        pause = min(self.grant.ttl / 30 * 2 ** min(self.failures - 1, 4), self.grant.ttl / 4, 5.0, left / 3)
        self.renew_due = now + max(pause, 0.005)

    def lose(self, reason: str) -> None:
        """The lease is over. Keeps the first reason; does nothing to one that was given back."""
        if self.state is State.HELD:
            self.reason = reason
            self.state = State.LOST

    def take_pulse(self, now: float) -> None:
        """Where a heartbeat process renews this: take over what it has reached, before asking the store ourselves."""
        if self.pulse is None or self.renew_due > now:
            return
        since = self._believe_pulse(self.pulse())
        if since > self.grant.since:
            self.renewed(self.grant.claim.ttl, since)
            # The heart is given the time of one more beat before we beat ourselves.
            self.renew_due += self.grant.ttl / 6

    def _believe_pulse(self, since: float | None) -> float:
        if since is None:
            self.lose("the store does not know it any more")
            return -math.inf
        self._believe(self.grant.claim.ttl, since)
        return since

    def _believe(self, ttl: float, since: float) -> None:
        until = believe_until(ttl, since)
        if self.ends_at is not None:
            until = min(until, self.ends_at)
        self.valid_until = max(self.valid_until, until)
