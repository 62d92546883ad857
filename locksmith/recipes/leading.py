"""Running something for as long as this process leads, and standing for election again whenever it has lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from locksmith.engine.core import Engine
from locksmith.engine.lease import LeaseFace, is_lost
from locksmith.errors import ClientClosed, LeaseLost, StoreError, StoreUnavailable
from locksmith.events import logger
from locksmith.recipes.election import Candidate, give_back_quietly
from locksmith.recipes.term import Term

L = TypeVar("L", bound=LeaseFace)
T = TypeVar("T")

SHORTEST: Final = 0.1
LONGEST: Final = 5.0
"""Seconds, at most, between two campaigns while the store cannot be asked."""
STEP: Final = 0.25
"""Seconds between two looks at whether a campaign that is to be stopped has ended by itself."""


class Stop(Protocol):
    """A flag that somebody raises when nobody shall lead here any more: threading.Event is one."""

    def is_set(self) -> bool:
        """Whether it is up."""

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for it."""


class _Stopped(Exception):
    """A campaign was ended because the flag went up."""


class Leading(Generic[L, T]):
    """One `run`."""

    def __init__(
        self,
        candidate: Candidate[L],
        lead: Callable[[L], Awaitable[T]],
        make: Callable[[Term], L] | None = None,
        *,
        value: object,
        note: str | None,
        stop: Stop | None = None,
    ) -> None:
        self._candidate = candidate
        self._engine = candidate.engine
        self._lead = lead
        self._make = make
        self._value = value
        self._note = note
        self._stop = stop
        self._pause = SHORTEST

    async def run(self) -> T | None:
        """What `lead` returned while it led, or None where the flag went up.

        Raises what `lead` and on_elected raise, but for the loss of leadership; ConfigurationError, StoreAuthError,
        StoreProtocolError, ClientClosed.
        """
        while not self._stopped():
            lease = await self._elected()
            if lease is not None:
                self._pause = SHORTEST
                if (done := await self._led(lease)) is not None:
                    return done[0]
            if not self._stopped():
                await self._rest()
        return None

    async def _elected(self) -> L | None:
        """The lease of a term that has begun; None where that came to nothing this time."""
        over = threading.Event()
        entering = None
        if self._stop is not None:
            entering = partial(_start_watching, self._engine, self._stop, over)
        try:
            return await self._candidate.campaign(None, self._note, self._value, self._make, entering)
        except _Stopped:
            return None
        except StoreUnavailable as error:
            level = logger.warning if self._pause == SHORTEST else logger.debug
            level("%r: nobody can be elected now, trying again: %s", self._candidate.permits.name, error)
            return None
        except LeaseLost as lost:
            self._lost(lost)
            return None
        finally:
            over.set()

    async def _led(self, lease: L) -> tuple[T] | None:
        """What `lead` returned, or None where leadership was lost before it returned, or before it was given back."""
        hold = lease._hold
        if self._stopped():
            await give_back_quietly(self._engine, hold)
            return None
        try:
            result = await self._lead(lease)
        except GeneratorExit:
            self._candidate.drop()
            raise
        except BaseException as error:
            await self._engine.runtime.finish(give_back_quietly(self._engine, hold))
            if not isinstance(error, LeaseLost) or not is_lost(hold):
                raise
            self._lost(error)
            return None
        try:
            await self._engine.release(hold)
        except LeaseLost as lost:
            self._lost(lost)
            return None
        except StoreError as error:
            logger.warning("%r was led to the end, but resigning failed: %s", hold.grant.claim.name, error)
        return (result,)

    def _lost(self, lost: LeaseLost) -> None:
        if self._engine.closed:
            raise ClientClosed("the client was closed while this led: connect again") from lost
        logger.info("%r: standing for election again: %s", self._candidate.permits.name, lost)

    def _stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    async def _rest(self) -> None:
        pause = self._pause * random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, LONGEST)
        if self._stop is not None:
            self._stop.wait(pause)
        else:
            await self._engine.runtime.sleep(pause)


def _start_watching(engine: Engine, stop: Stop, over: threading.Event, owner: str) -> None:
    engine.runtime.background(partial(_watch, engine, stop, over, owner), "locksmith-stop")


async def _watch(engine: Engine, stop: Stop, over: threading.Event, owner: str) -> None:
    # Blocking only: a task is cancelled instead. The flag is somebody else's and cannot wake the waiter by itself.
    while not over.is_set():
        if stop.wait(STEP) and not over.wait(0.01) and (ticket := engine.keeper.tickets.get(owner)):
            ticket.inbox.deliver(_Stopped())
