"""Multi-lock: several names, all of them or none.

First the store is asked for all of them in one step, where it has one. Where that is refused the names are waited for
one after another, each in its own fair line, and always in the order of their keys: whoever waits for a name holds only
names that come before it, so nobody ever waits in a circle (Havender's ordering, "Avoiding deadlock in multitasking
systems", 1968), and since each line moves on, nobody waits for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from locksmith import events
from locksmith.engine import telling
from locksmith.engine.core import Engine
from locksmith.engine.hold import Hold
from locksmith.engine.together import acquire_together, bound, drop, give_back, shown
from locksmith.errors import ConfigurationError, InvalidTTL
from locksmith.recipes.permits import Permits
from locksmith.store import Claim

MOST: Final = 64
"""Names of one multi-lock: a server is kept busy for as long as the one step takes."""
LOOK_AGAIN: Final = 0.05
"""Seconds between two tries to wake who waits for a name while another one of its names was lost."""


class _LostMeanwhile(Exception):
    """A name was lost while a later one was waited for."""


def check_names(names: Iterable[str]) -> list[str]:
    """The names of a multi-lock. Raises ConfigurationError where they are none, too many, or one of them is double."""
    if isinstance(names, str | bytes):
        raise ConfigurationError(f"lock_all takes a list of names, not one text: write lock_all([{names!r}])")
    try:
        found = list(names)
    except TypeError:
        raise ConfigurationError(f"lock_all takes a list of names, not {type(names).__name__}") from None
    if not 1 <= len(found) <= MOST:
        raise ConfigurationError(f"lock_all takes from 1 to {MOST} names, not {len(found)}: lock something above them")
    for at, name in enumerate(found):
        if name in found[:at]:
            raise ConfigurationError(f"lock_all was given {name!r} twice: name each once, locks are not re-entrant")
    return found


class Together:
    """Several names with settings: what both faces of a multi-lock stand on. Stateless."""

    def __init__(self, engine: Engine, permits: Sequence[Permits]) -> None:
        self.engine = engine
        self.names = tuple(each.name for each in permits)
        self._permits = sorted(permits, key=lambda each: each.key)
        self._strict = permits[0].strict_ttl

    async def acquire(self, wait: float | None, note: str | None, max_hold: float | None) -> list[Hold] | None:
        """Holds of all names, in the order in which the user wrote them; None where `wait` seconds ended first.

        Raises what Engine.acquire does, and InvalidTTL. Every way out but the first leaves nothing on the store.
        """
        attempt = _Attempt(self.engine, self._permits, note, max_hold)
        holds = await attempt.run(wait)
        if holds is None:
            return None
        by_name = {hold.grant.claim.name: hold for hold in holds}
        if self._strict:
            await self._refuse_rounded(holds)
        return [by_name[name] for name in self.names]

    async def _refuse_rounded(self, holds: Sequence[Hold]) -> None:
        for hold in holds:
            grant = hold.grant
            if grant.confirmed and grant.ttl > grant.claim.ttl:
                claims = [each.grant.claim for each in holds]
                await self.engine.runtime.finish(give_back(self.engine, claims))
                raise InvalidTTL(
                    f"the store keeps {grant.claim.name!r} for {grant.ttl} s, not {grant.claim.ttl}: raise the ttl"
                )


class _Attempt:
    """One acquisition of several names, which are in the order of their keys."""

    def __init__(self, engine: Engine, permits: Sequence[Permits], note: str | None, max_hold: float | None) -> None:
        self._engine = engine
        self._permits = permits
        self._note = note
        self._max_hold = max_hold
        self._now = engine.runtime.clock.now
        self._claims = self._fresh()
        """Of the present try. An owner is one try's, so each has claims of its own."""

    def _fresh(self) -> list[Claim]:
        return [permits.claim(note=self._note, max_hold=self._max_hold) for permits in self._permits]

    async def run(self, wait: float | None) -> list[Hold] | None:
        """See Together.acquire; the holds are in the order of their keys."""
        began = self._now()
        deadline = None if wait is None else began + wait
        try:
            while True:
                holds = await self._try(deadline, wait)
                if holds is not None or (deadline is not None and self._now() >= deadline):
                    return holds
                self._claims = self._fresh()
        except GeneratorExit:
            drop(self._engine, self._claims)
            raise
        except BaseException:
            await self._engine.runtime.finish(give_back(self._engine, self._claims))
            raise

    async def _try(self, deadline: float | None, wait: float | None) -> list[Hold] | None:
        """One round: the step of the store, and then, where there is patience, one name after another."""
        engine, began = self._engine, self._now()
        if engine.store.takes_together(self._claims):
            holds = await acquire_together(engine, self._claims, self._max_hold)
            if holds is not None:
                return holds
            if wait == 0:
                for claim in self._claims:
                    telling.gave_up(engine.hooks, claim, self._now() - began, queued=False)
                return None
            self._claims = self._fresh()
        return await self._in_turn(deadline)

    async def _in_turn(self, deadline: float | None) -> list[Hold] | None:
        """Holds of all, got one after another; None where the time ended, or one was lost while others were waited for.

        What is held meanwhile is renewed by the keeper like any lease.
        """
        engine, holds, over = self._engine, list[Hold](), threading.Event()
        try:
            for claim in self._claims:
                left = None if deadline is None else max(0.0, deadline - self._now())
                hold = await engine.acquire(claim, left)
                if hold is None:
                    break
                holds.append(hold)
                # Noted before the look: a loss is either seen there or told here.
                hold.on_lost.append(partial(_awake, engine, self._claims, over))
                if not all(each.held for each in holds):
                    break
        except _LostMeanwhile:
            events.logger.info("a name was lost while others of %s were waited for", shown(self._claims))
        finally:
            over.set()
        if len(holds) == len(self._claims) and all(hold.held for hold in holds):
            if self._max_hold is not None:
                for hold in holds:
                    bound(engine, hold, self._max_hold)
            return holds
        await engine.runtime.finish(give_back(engine, self._claims))
        return None


async def _awake(engine: Engine, claims: Sequence[Claim], over: threading.Event) -> None:
    """One of these was lost: whoever waits for another one of them waits in vain."""
    while not over.is_set():
        for claim in claims:
            # Between two places in line there is none; and who has got the name in this moment looks by itself.
            if ticket := engine.keeper.tickets.get(claim.owner):
                ticket.inbox.deliver(_LostMeanwhile())
        await engine.runtime.sleep(LOOK_AGAIN)
