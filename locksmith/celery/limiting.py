"""A limited call in the process that runs it: it begins under a permit and in its slot, or comes back for them.

The permit first: another slot is booked by a call alone that can begin then. The permit is a lease on a semaphore,
renewed by this process, so it ends with it. What waits does so in no pool's slot: most messages come with their slot,
see strategy.py, and the others are published again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NoReturn, TypeVar

from locksmith.celery import slots
from locksmith.celery.limits import Limits
from locksmith.celery.putting_off import FIRST, LONGEST, come_back
from locksmith.celery.slots import Pass, StoreClock
from locksmith.celery.wiring import wiring_of
from locksmith.client import Client, Lease
from locksmith.errors import LeaseLost, SettingsConflict, StoreError
from locksmith.recipes.rates import RateRecipe
from locksmith.runtime import drive

R = TypeVar("R")

logger: Final = logging.getLogger("locksmith.celery")
NEAR: Final = 0.05
"""Seconds for which a call waits where it is: the way through a broker takes about as long."""
_clocks: dict[int, StoreClock] = {}


def limited(limits: Limits, request: Any, body: Callable[..., R]) -> Callable[..., R]:
    """A task's body, under its limits. Raises what the body raises; Ignore where it comes back later."""

    def begin(*args: Any, **kwargs: Any) -> R:
        try:
            call = _Call(limits, request, args, kwargs)
        except TypeError:
            if _fit(limits.task, args, kwargs):
                raise
            return body(*args, **kwargs)  # it raises the same
        lease = call.admitted()
        try:
            return body(*args, **kwargs)
        finally:
            call.leave(lease)

    return begin


def _fit(task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether arguments are those of the task: else what is wrong is a key that does not work."""
    try:
        task.__header__(*args, **kwargs)
    except TypeError:
        return False
    return True


class _Call:
    """One call that is about to begin."""

    def __init__(self, limits: Limits, request: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.limits = limits
        self.request = request
        self.call = request.id, request.retries
        self.ticket = slots.of(vars(request), self.call)
        self.key = None if limits.key_of is None else limits.key_of(args, kwargs)
        self.semaphore = limits.semaphore_name(args, kwargs)
        self.client: Client = wiring_of(limits.task.app).current_client()

    def admitted(self) -> Lease | None:
        """The permit under which it begins now, if it needs one. Raises Ignore: it comes back."""
        lease: Lease | None = None
        try:
            if self.limits.concurrency is not None:
                lease = self._permit()
            if self.limits.rates is not None:
                self._slot(self.limits.rates)
        except StoreError as error:
            if self.limits.on_store_error == "fail":
                self.leave(lease)
                logger.warning("%s is put off: %s", self, error)
                self._put_off()
            logger.warning("%s runs without its limits: %s", self, error)
        except BaseException:
            self.leave(lease)
            raise
        return lease

    def leave(self, lease: Lease | None) -> None:
        """Give the permit back."""
        if lease is None:
            return
        try:
            lease.release()
        except LeaseLost as lost:
            logger.warning("%s had lost its permit of %r, so more may have run beside it: %s",
                           self, self.semaphore, lost)  # fmt: skip
        except StoreError as error:
            logger.warning("%s gives its permit of %r back later: %s", self, self.semaphore, error)

    # Permits.

    def _permit(self) -> Lease:
        try:
            semaphore = self.client.semaphore(self.semaphore, limit=self.limits.concurrency or 1, ttl=self.limits.ttl)
            lease = semaphore.try_acquire(note=str(self)[:200])
        except SettingsConflict as error:
            # Old and new processes, while a new limit is rolled out.
            logger.warning("%s is put off: %s", self, error)
            lease = None
        if lease is None:
            self._put_off()
        return lease

    def _put_off(self) -> NoReturn:
        # Not all at the same moment.
        pause = min(FIRST * 2 ** min(self.ticket.tries, 10), LONGEST) * random.uniform(0.5, 1.0)
        self._come_back(replace(self.ticket, tries=self.ticket.tries + 1), pause)

    # Slots.

    def _slot(self, rates: tuple[Any, ...]) -> None:
        """Come to its slot: the one it has, or the next. Raises Ignore where that is not now."""
        clock, ticket = self._clock(), self.ticket
        if ticket.at:
            late = clock.now() - ticket.at / 1e6
            if late > slots.grace(rates, ticket.missed):
                ticket = Pass(missed=ticket.missed + 1)
        if not ticket.at:
            recipe = RateRecipe(self.client._engine, self.limits.name, rates)
            slot = clock.learn(drive(recipe.book(self.limits.cost, None, self.key)))
            if not slot.booked:
                self._come_back(ticket, self.limits.hold)  # more than 30 days ahead: nothing was taken
            ticket = replace(ticket, at=slot.at)
        left = ticket.at / 1e6 - clock.now()
        if left > NEAR:
            self._come_back(replace(ticket, tries=0), min(left, self.limits.hold))
        time.sleep(max(0.0, left))
        self.request._locksmith_slot = ticket.at

    def _clock(self) -> StoreClock:
        found = _clocks.get(id(self.client))
        if found is None or found.client is not self.client:
            found = _clocks[id(self.client)] = StoreClock(self.client)
        return found

    # Coming back.

    def _come_back(self, ticket: Pass, pause: float) -> NoReturn:
        """Publish the same message once more, for later. Raises Ignore; what publishing raises."""
        headers = {**(self.request.headers or {}), slots.HEADER: ticket.dump(self.call)}
        # Of a Singleton as well, which takes it for a retry: its key is that of a queued call again.
        come_back(self.limits.task, self.request, pause, headers=headers)

    def __str__(self) -> str:
        return f"{self.limits.task.name}[{self.request.id}]"
