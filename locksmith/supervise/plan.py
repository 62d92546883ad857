"""What a supervisor does next: decided here, from what happened, without a clock, a process or a store.

Each method says what happened and returns what to do, in order. That the command ends before its lease does is not
decided here: the guardian has the deadline.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

TAKEN: Final = 75
"""EX_TEMPFAIL of sysexits.h: with `once`, somebody else has the name."""
LOST: Final = 69
"""EX_UNAVAILABLE of sysexits.h: with `once`, the lease was lost and the command ended because of that; and where the
guardian was killed."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
"""Seconds before the first restart, and at most: twice as long after each command that did not live."""
LOOK_AGAIN: Final = 0.05
"""Seconds between two looks at a lease under which nothing could be started now."""
LIVED: Final = 60.0
"""Seconds after which a command counts as having lived."""


class Restart(enum.Enum):
    """When a command that ended by itself is started again, where it ran."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Phase(enum.Enum):
    """Where a supervisor is. The lease is held from STARTING to RESTING."""

    ASIDE = "paused"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    RESTING = "resting"
    OVER = "over"


class Then(enum.Enum):
    """What follows when the command that was told to end has ended."""

    DECIDE = "decide"
    AGAIN = "again"
    YIELD = "yield"
    LEAVE = "leave"
    LEAVE_QUIETLY = "leave quietly"


class Do(enum.Enum):
    """What to do, where nothing more needs to be said."""

    CAMPAIGN = "stand in line for the name"
    WITHDRAW = "leave the line"
    START = "start the command"
    RELEASE = "give the name back"


@dataclass(frozen=True, slots=True)
class End:
    """End the command: this signal now, SIGKILL after the grace."""

    signal: int


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the command a signal."""

    signal: int


@dataclass(frozen=True, slots=True)
class Exit:
    """End with this status."""

    status: int


Action = Do | End | Forward | Exit


class Plan:
    """One supervisor's decisions. `term` is the number of SIGTERM, `endings` those of signals that mean "end"."""

    def __init__(self, *, restart: Restart, once: bool, term: int, endings: frozenset[int]) -> None:
        self.phase = Phase.ASIDE
        self.paused = False
        self.starts = 0
        self._restart = restart
        self._once = once
        self._term = term
        self._endings = endings
        self._then = Then.DECIDE
        self._pause = FIRST_PAUSE
        self._started_at = 0.0
        self.due = math.inf
        """When `tick` has something to do."""

    # What the store says.

    def begin(self) -> list[Action]:
        """The supervisor is ready."""
        return self._line_up()

    def elected(self) -> list[Action]:
        """The name is ours."""
        if self.phase is not Phase.WAITING:
            return [Do.RELEASE]
        return self._start()

    def taken(self) -> list[Action]:
        """With `once`: somebody else has the name."""
        return self._leave(TAKEN)

    def tick(self, now: float, *, held: bool, room: bool = True) -> list[Action]:
        """Time went by. `room`: whether the lease has enough left to start anything under it."""
        if self.phase is not Phase.RESTING:
            return []
        if not held:
            self.due = math.inf
            return self._lost()
        if now < self.due:
            return []
        if room:
            return self._start()
        self.due = now + LOOK_AGAIN
        return []

    # What the guardian says.

    def started(self, now: float) -> list[Action]:
        """The command runs."""
        self._started_at = now
        if self.phase is Phase.STARTING:
            self.phase = Phase.RUNNING
        return []

    def ended(self, now: float, status: int | None, *, held: bool, expired: bool, hopeless: bool) -> list[Action]:
        """Nothing of the command is left. `hopeless`: it cannot be started at all."""
        then, self._then = self._then, Then.DECIDE
        if then is Then.LEAVE:
            return self._leave(0 if status is None else status)
        if then is Then.LEAVE_QUIETLY:
            return self._leave(0)
        if not held:
            return self._lost()
        if self.paused or then is Then.YIELD:
            return [Do.RELEASE, *self._line_up()]
        if expired:
            # Held all the same: it was renewed in the last moment, or is about to end, which the next looks will show.
            self.phase, self.due = Phase.RESTING, now + LOOK_AGAIN
            return []
        if then is Then.AGAIN or status is None:
            return self._start()
        if hopeless or not self._restarts(status):
            return self._leave(status)
        return self._rest(now)

    def orphaned(self) -> list[Action]:
        """The guardian was killed: without it nothing may run here."""
        return self._leave(LOST)

    # What people say.

    def signal(self, number: int) -> list[Action]:
        """A signal for the supervisor: passed on, and those that mean "end" end both."""
        if number not in self._endings:
            return [Forward(number)] if self._runs else []
        if not self._runs:
            return self._leave(0)
        again = self._then is Then.LEAVE
        self._then, self.phase = Then.LEAVE, Phase.ENDING
        return [Forward(number)] if again else [End(number)]

    def stop(self) -> list[Action]:
        """`ctl stop`: end, with status 0, here as everywhere."""
        return self._end(Then.LEAVE_QUIETLY) if self._runs else self._leave(0)

    def pause(self) -> list[Action]:
        """`ctl pause`: nobody runs it until it is resumed."""
        self.paused = True
        if self.phase is Phase.WAITING:
            self.phase = Phase.ASIDE
            return [Do.WITHDRAW]
        if self.phase is Phase.RESTING:
            return [Do.RELEASE, *self._line_up()]
        return self._end(Then.YIELD)

    def resume(self) -> list[Action]:
        """`ctl resume`."""
        self.paused = False
        return self._line_up() if self.phase is Phase.ASIDE else []

    def restart(self) -> list[Action]:
        """`ctl restart`: end it and start it again, here."""
        return self._start() if self.phase is Phase.RESTING else self._end(Then.AGAIN)

    def hand_over(self) -> list[Action]:
        """`ctl handover`: end it, and let the next in line have it."""
        if self.phase is Phase.RESTING:
            return [Do.RELEASE, *self._line_up()]
        return self._end(Then.YIELD)

    # How.

    @property
    def _runs(self) -> bool:
        return self.phase in (Phase.STARTING, Phase.RUNNING, Phase.ENDING)

    def _start(self) -> list[Action]:
        self.phase, self.due = Phase.STARTING, math.inf
        self.starts += 1
        return [Do.START]

    def _end(self, then: Then) -> list[Action]:
        if not self._runs or self._then in (Then.LEAVE, Then.LEAVE_QUIETLY):
            return []
        ending, self.phase, self._then = self.phase is Phase.ENDING, Phase.ENDING, then
        return [] if ending else [End(self._term)]

    def _lost(self) -> list[Action]:
        return self._leave(LOST) if self._once else [Do.RELEASE, *self._line_up()]

    def _line_up(self) -> list[Action]:
        self._then, self.due = Then.DECIDE, math.inf
        self.phase = Phase.ASIDE if self.paused else Phase.WAITING
        return [] if self.paused else [Do.CAMPAIGN]

    def _leave(self, status: int) -> list[Action]:
        waiting, self.phase = self.phase is Phase.WAITING, Phase.OVER
        return [Do.WITHDRAW if waiting else Do.RELEASE, Exit(status)]

    def _restarts(self, status: int) -> bool:
        return self._restart is Restart.ALWAYS or (self._restart is Restart.ON_FAILURE and status != 0)

    def _rest(self, now: float) -> list[Action]:
        if now - self._started_at >= LIVED:
            self._pause = FIRST_PAUSE
        self.phase, self.due = Phase.RESTING, now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return []
