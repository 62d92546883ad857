"""Elections, asyncio: a thin mirror of `locksmith.elections`, with the same method names and parameters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from locksmith.aio import Acquisition, AsyncLease
from locksmith.changes import AsyncChanges
from locksmith.engine.core import Engine
from locksmith.errors import AcquireTimeout
from locksmith.recipes.election import Candidate, Leader
from locksmith.recipes.leading import Leading
from locksmith.recipes.permits import Permits, check_wait
from locksmith.recipes.term import Announcement, Term
from locksmith.recipes.watch import Watch

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class AsyncLeadership(AsyncLease):
    """One term at the head of an election: a lease. Giving it back, in whichever way, first calls on_lost."""

    __slots__ = ("_term",)

    def __init__(self, term: Term, body: asyncio.Task[Any] | None = None) -> None:
        super().__init__(term.engine, term.hold, body)
        self._term = term

    @property
    def term(self) -> int:
        """The number of this term: the fencing token."""
        return self.token

    async def proclaim(self, value: object) -> None:
        """Announce another value, which JSON can express: what `leader()` shows as long as this term lasts.

        The store writes it only while this lease is held. Raises LeaseLost; StoreError, where it may or may not have
        been written, and calling this again is safe; ConfigurationError, CellTooLarge.
        """
        await self._term.proclaim(Announcement(value))

    async def resign(self) -> bool:
        """Stop leading: on_lost is called and has returned, then the lease is given back. As `release`."""
        return await self.release()


class AsyncElection:
    """A name that one of many leads, and one candidate for it. Share it between tasks that shall be one candidate."""

    __slots__ = ("_candidate",)

    def __init__(self, engine: Engine, permits: Permits) -> None:
        self._candidate: Candidate[AsyncLeadership] = Candidate(engine, permits, AsyncLeadership)

    @property
    def name(self) -> str:
        """The name that is led; on the store that of an exclusive lock."""
        return self._candidate.permits.name

    @property
    def leading(self) -> AsyncLeadership | None:
        """The present term, where this candidate leads: no request, and right even where renewal is starved."""
        return self._candidate.leading

    def campaign(
        self,
        *,
        wait: float | None = None,
        value: object = None,
        note: str | None = None,
        cancel_on_loss: bool = False,
    ) -> Acquisition[AsyncLeadership]:
        """Lead, after standing in line for at most `wait` seconds (None: without bound, 0: one try).

        `await` the result, or use it in an `async with`. `value`, which JSON can express, is announced and on_elected
        has returned before this does. `note` is shown to people who list holders. `cancel_on_loss` cancels the task
        that campaigned when leadership is lost; an `async with` then raises LeaseLost.
        Raises AcquireTimeout, SelfDeadlock, StoreError, ConfigurationError, CellTooLarge, ClientClosed, LeaseLost
        (elected, and lost again meanwhile), and what on_elected raises; in each of these cases this does not lead.
        """
        patience = check_wait(wait)

        async def elected() -> AsyncLeadership:
            make = None
            if cancel_on_loss:
                body = asyncio.current_task()
                make = lambda term: AsyncLeadership(term, body)  # noqa: E731
            leadership = await self._candidate.campaign(patience, note, value, make)
            if leadership is None:
                raise AcquireTimeout(
                    f"{self.name!r} was led by others for {wait} s: this does not lead; try again later"
                )
            return leadership

        return Acquisition(elected)

    async def resign(self) -> bool:
        """Stop leading: on_lost is called and has returned, then the lease is given back.

        True: resigned. False: this candidate does not lead, or resigns already. Raises LeaseLost where leadership was
        lost; StoreError where the store could not be asked (see AsyncLease.release).
        """
        return await self._candidate.resign()

    async def proclaim(self, value: object) -> None:
        """Announce another value. Raises as AsyncLeadership.proclaim does; LeaseLost where this does not lead."""
        await self._candidate.proclaim(value)

    async def leader(self) -> Leader | None:
        """Who leads and what they announced; None where nobody does. Two requests. Raises StoreError, ClientClosed.

        A value is only ever shown with the term in which it was announced.
        """
        return await self._candidate.leader()

    def observe(self, *, wait: float | None = None) -> AsyncChanges[Leader | None]:
        """Iterate over leaders: the present one (or None), then each change of leader or value, told where stores push.

        Ends after `wait` seconds without a change. A leader that dies is missed when its ttl has passed.
        """
        watch = Watch(self._candidate.engine, self._candidate.place, self._candidate.look, check_wait(wait))
        return AsyncChanges(watch)

    async def run(
        self,
        fn: Callable[[AsyncLeadership], Coroutine[Any, Any, T]],
        *,
        value: object = None,
        note: str | None = None,
    ) -> T | None:
        """Await `fn(leadership)` whenever this is elected, until it returns while it leads: what it returned.

        `fn` runs in a task of its own, which is cancelled when leadership is lost; then this stands for election
        again, and so it does while the store cannot be asked. What else `fn` raises is raised here, after resigning.
        Cancel this to stop it: `fn` is cancelled, and this resigns. `value` and `note` as in `campaign`.
        """

        async def lead(leadership: AsyncLeadership) -> T:
            return await _led(leadership, fn)

        return await Leading(self._candidate, lead, value=value, note=note).run()

    def on_elected(self, fn: F) -> F:
        """Have `fn` called (and awaited) once in each term, before `campaign` returns; if it raises, this resigns.

        `fn` takes no argument, or the AsyncLeadership. It should return soon. Returns `fn`, so this is a decorator.
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


async def _led(leadership: AsyncLeadership, fn: Callable[[AsyncLeadership], Coroutine[Any, Any, T]]) -> T:
    body = asyncio.ensure_future(fn(leadership))
    leadership.on_lost(lambda: body.cancel(f"{leadership.name!r} is not led from here any more"))
    try:
        return await body
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if leadership.lost.is_set() and not (task is not None and task.cancelling()):
            raise leadership._hold.loss() from None
        raise
