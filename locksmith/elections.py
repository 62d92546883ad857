"""Elections, blocking: a thin mirror of `locksmith.elections_aio`. What happens is decided in `locksmith.recipes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from locksmith.changes import Changes
from locksmith.client import Lease
from locksmith.engine.core import Engine
from locksmith.errors import AcquireTimeout
from locksmith.recipes.election import Candidate, Leader
from locksmith.recipes.leading import Leading, Stop
from locksmith.recipes.permits import Permits, check_wait
from locksmith.recipes.term import Announcement, Term
from locksmith.recipes.watch import Watch
from locksmith.runtime import drive

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Leadership(Lease):
    """One term at the head of an election: a lease. Giving it back, in whichever way, first calls on_lost."""

    __slots__ = ("_term",)

    def __init__(self, term: Term) -> None:
        super().__init__(term.engine, term.hold)
        self._term = term

    @property
    def term(self) -> int:
        """The number of this term: the fencing token."""
        return self.token

    def proclaim(self, value: object) -> None:
        """Announce another value, which JSON can express: what `leader()` shows as long as this term lasts.

        The store writes it only while this lease is held. Raises LeaseLost; StoreError, where it may or may not have
        been written, and calling this again is safe; ConfigurationError, CellTooLarge.
        """
        drive(self._term.proclaim(Announcement(value)))

    def resign(self) -> bool:
        """Stop leading: on_lost is called and has returned, then the lease is given back. As `release`."""
        return self.release()


class Election:
    """A name that one of many leads, and one candidate for it. Share it between threads that shall be one candidate."""

    __slots__ = ("_candidate",)

    def __init__(self, engine: Engine, permits: Permits) -> None:
        self._candidate: Candidate[Leadership] = Candidate(engine, permits, Leadership)

    @property
    def name(self) -> str:
        """The name that is led; on the store that of an exclusive lock."""
        return self._candidate.permits.name

    @property
    def leading(self) -> Leadership | None:
        """The present term, where this candidate leads: no request, and right even where renewal is starved."""
        return self._candidate.leading

    def campaign(self, *, wait: float | None = None, value: object = None, note: str | None = None) -> Leadership:
        """Lead, after standing in line for at most `wait` seconds (None: without bound, 0: one try).

        `value`, which JSON can express, is announced and on_elected has returned before this does. `note` is shown to
        people who list holders. Raises AcquireTimeout, SelfDeadlock, StoreError, ConfigurationError, CellTooLarge,
        ClientClosed, LeaseLost (elected, and lost again meanwhile), and what on_elected raises; in each of these
        cases this does not lead.
        """
        leadership = drive(self._candidate.campaign(check_wait(wait), note, value))
        if leadership is None:
            raise AcquireTimeout(f"{self.name!r} was led by others for {wait} s: this does not lead; try again later")
        return leadership

    def resign(self) -> bool:
        """Stop leading: on_lost is called and has returned, then the lease is given back.

        True: resigned. False: this candidate does not lead, or resigns already. Raises LeaseLost where leadership was
        lost; StoreError where the store could not be asked (see Lease.release).
        """
        return drive(self._candidate.resign())

    def proclaim(self, value: object) -> None:
        """Announce another value. Raises as Leadership.proclaim does; LeaseLost where this candidate does not lead."""
        drive(self._candidate.proclaim(value))

    def leader(self) -> Leader | None:
        """Who leads and what they announced; None where nobody does. Two requests. Raises StoreError, ClientClosed.

        A value is only ever shown with the term in which it was announced.
        """
        return drive(self._candidate.leader())

    def observe(self, *, wait: float | None = None) -> Changes[Leader | None]:
        """Iterate over leaders: the present one (or None), then each change of leader or value, told where stores push.

        Ends after `wait` seconds without a change. A leader that dies is missed when its ttl has passed.
        """
        watch = Watch(self._candidate.engine, self._candidate.place, self._candidate.look, check_wait(wait))
        return Changes(watch)

    def run(
        self,
        fn: Callable[[Leadership], T],
        *,
        value: object = None,
        note: str | None = None,
        stop: Stop | None = None,
    ) -> T | None:
        """Call `fn` with the leadership whenever this is elected, until it returns while it leads: what it returned.

        Where leadership was lost before `fn` returned (or it raised LeaseLost for that) this stands for election
        again; so it does while the store cannot be asked. `fn` must look: `leadership.held`, `check()`, `lost.wait()`.
        What else it raises is raised here, after resigning. With `stop` set this stands for no further election and
        returns None, or what `fn` returns; `fn` should look at it, too. `value` and `note` as in `campaign`.
        """

        async def lead(leadership: Leadership) -> T:
            return fn(leadership)

        return drive(Leading(self._candidate, lead, value=value, note=note, stop=stop).run())

    def on_elected(self, fn: F) -> F:
        """Have `fn` called once in each term, before `campaign` returns; if it raises, this resigns.

        `fn` takes no argument, or the Leadership. It should return soon. Returns `fn`, so this is a decorator as well.
        """
        self._candidate.elected.append(fn)
        return fn

    def on_lost(self, fn: F) -> F:
        """Have `fn` called once at the end of each term that began, whatever ends it, after on_elected has returned.

        When this resigns or its client is closed, `fn` has returned before anybody else can lead. When the lease is
        lost, `fn` is called at its deadline at the latest, on a thread or task of its own. What it raises is logged.
        """
        self._candidate.lost.append(fn)
        return fn

    def __repr__(self) -> str:
        leads = " (leads)" if self.leading else ""
        return f"<{type(self).__name__} {self.name!r} at {self._candidate.engine.store.address}{leads}>"
