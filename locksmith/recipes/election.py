"""Election: one of many leads, and everybody can see who.

The leader is whoever holds the election's name, an exclusive lease in a fair line, *and* has announced that in a cell.
A term is one such lease, its number the fencing token. The cell is only ever written under the guard of the grant, so
what a former leader sends late is refused by the store, and an announcement counts for nobody but the term that it
names. (The order "tell, then give back" is that of Kubernetes' leaderelection; Chubby, OSDI 2006, has the announcement
in the lock's own file.) Assumes what leases assume: clocks whose rates differ by at most 1 %.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from locksmith.engine.core import Engine
from locksmith.engine.hold import Hold
from locksmith.engine.lease import LeaseFace
from locksmith.errors import ClientClosed, ConfigurationError, LeaseLost
from locksmith.events import logger
from locksmith.recipes import places, plain
from locksmith.recipes.needs import require
from locksmith.recipes.permits import Permits
from locksmith.recipes.term import Announcement, Term
from locksmith.recipes.watch import Sight
from locksmith.store import Guarantee, HolderView

L = TypeVar("L", bound=LeaseFace)

NEEDS: Final = Guarantee.FENCED | Guarantee.FIFO | Guarantee.CELLS
SOONEST: Final = 0.05
"""Seconds between two looks at a leader whose time is nearly up."""


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads."""

    name: str
    """Of the election."""
    term: int
    """The fencing token of its lease: grows from leader to leader."""
    value: Any
    """What it announced last."""
    host: str | None
    pid: int | None
    note: str | None
    since: float
    """Seconds since it got the name, as the store counts."""


class Candidate(Generic[L]):
    """One candidate of an election, and observer of it: what both faces of an Election stand on.

    `make` gives a term the form in which a user has it in hand.
    """

    def __init__(self, engine: Engine, permits: Permits, make: Callable[[Term], L]) -> None:
        require(engine.store, NEEDS, "an election")
        self.engine = engine
        self.permits = permits
        self.place = places.of_election(permits.name)
        self.elected: list[Callable[..., Any]] = []
        self.lost: list[Callable[..., Any]] = []
        self._make = make
        self._term: Term | None = None
        self._lease: L | None = None

    @property
    def leading(self) -> L | None:
        """The lease of the present term, where it is this candidate's."""
        lease = self._lease
        return lease if lease is not None and lease.held else None

    async def campaign(
        self,
        wait: float | None,
        note: str | None,
        value: object,
        make: Callable[[Term], L] | None = None,
        entering: Callable[[str], object] | None = None,
    ) -> L | None:
        """The lease of a term that has begun: announced, and on_elected has returned. None: `wait` seconds ended first.

        Every other way out leaves this process without leadership, and giving back what it had got has been tried.
        `entering` is told the owner of the claim before anything is sent.
        """
        word = Announcement(value)
        claim = self.permits.claim(note=note)
        if entering is not None:
            entering(claim.owner)
        hold = await self.engine.acquire(claim, wait)
        if hold is None:
            return None
        term = Term(self.engine, hold, self.place, self.elected, self.lost)
        try:
            return await self._begin(term, word, make or self._make)
        except GeneratorExit:
            term.drop()
            raise
        except BaseException as error:
            await self.engine.runtime.finish(give_back_quietly(self.engine, hold))
            if self.engine.closed and isinstance(error, LeaseLost):
                raise ClientClosed("the client was closed while this campaigned: connect again") from error
            raise

    async def _begin(self, term: Term, word: Announcement, make: Callable[[Term], L]) -> L:
        lease = make(term)
        term.bind(lease)
        await term.announce(word)
        self._term, self._lease = term, lease
        await term.begin()
        return lease

    async def resign(self) -> bool:
        """Give leadership back: True. False: this candidate does not lead, or resigns already."""
        return self._term is not None and await self.engine.release(self._term.hold)

    def drop(self) -> None:
        """See Term.drop."""
        if self._term is not None:
            self._term.drop()

    async def proclaim(self, value: object) -> None:
        """See Term.proclaim. Raises LeaseLost where this candidate does not lead."""
        if self._term is None:
            raise LeaseLost(f"{self.permits.name!r} is not led from here: campaign first")
        await self._term.proclaim(Announcement(value))

    # What everybody can see.

    async def leader(self) -> Leader | None:
        """Who leads, None where nobody does. Two requests. Raises StoreError."""
        self.engine.refuse_unusable()
        return (await self.look()).state

    async def look(self) -> Sight[Leader | None]:
        """What a watch needs to know.

        First the announcement, then the holder: an announcement whose term holds the name *afterwards* was in force
        when it was read, because no grant comes back once it has ended.
        """
        cell = await self.engine.store.get(self.place)
        if cell is None:
            return Sight(None, None, 0)
        term, value = _read(self.place, cell.value)
        for view in (await self.engine.store.inspect(self.permits.name)).holders:
            if view.token == term:
                leader = _leader(self.permits.name, value, view)
                # Nobody writes the cell when a leader dies: only its time tells.
                return Sight(leader, cell.value, cell.version, max(view.expires_in, SOONEST))
        return Sight(None, None, cell.version)


async def give_back_quietly(engine: Engine, hold: Hold) -> None:
    """Give back what something went wrong under; the engine goes on trying where this fails."""
    try:
        await engine.release(hold)
    except Exception as error:  # noqa: BLE001 - what went wrong before is what the caller must see
        logger.debug("giving back %r: %s", hold.grant.claim.name, error)


def _read(place: str, raw: bytes) -> tuple[int, Any]:
    told = plain.load(raw, f"the cell {place!r}")
    try:
        return int(told["term"]), told["value"]
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError(f"the cell {place!r} holds something that no election wrote") from None


def _leader(name: str, value: object, view: HolderView) -> Leader:
    try:
        info = json.loads(view.info)
    except ValueError:
        info = None
    if not isinstance(info, dict):
        info = {}
    return Leader(name, view.token, value, info.get("host"), info.get("pid"), info.get("note"), view.since)
