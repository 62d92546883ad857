"""Who of this client waits for what, and what a push means to them; and how they learn of it where none arrives."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

from locksmith.errors import StoreError
from locksmith.store import Grant, Ticket

PAUSES: Final = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Seconds between attempts to listen again; the last one repeats."""
_FIRST_LOOK: Final = 0.005
_LAST_LOOK: Final = 0.25

Ask: TypeAlias = Callable[[list[Ticket]], Awaitable[None]]
"""Asks the store about these tickets at once, and delivers what it says."""


class _Waiter:
    """One expected or standing place in line."""

    __slots__ = ("early", "ticket")

    def __init__(self) -> None:
        self.ticket: Ticket | None = None
        self.early: tuple[int, int] | None = None


class Waiters:
    """The tickets of one client by owner. Dictionary operations are atomic, so threads need no lock here."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, on a channel that no other process hears."""
        self.channel = f"locksmith_{os.urandom(8).hex()}"
        self._waiters: dict[str, _Waiter] = {}

    def expect(self, owner: str) -> None:
        """A push may arrive before the reply that says under which number: keep it until `bind`."""
        self._waiters[owner] = _Waiter()

    def bind(self, ticket: Ticket) -> None:
        """This is the expected ticket."""
        waiter = self._waiters.setdefault(ticket.claim.owner, _Waiter())
        waiter.ticket = ticket
        if waiter.early is not None:
            self._deliver(ticket, *waiter.early)

    def forget(self, owner: str) -> None:
        """Nobody waits any more."""
        self._waiters.pop(owner, None)

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more; its owner may have a newer one."""
        waiter = self._waiters.get(ticket.claim.owner)
        if waiter is not None and waiter.ticket is ticket:
            self.forget(ticket.claim.owner)

    def tickets(self) -> list[Ticket]:
        """The tickets without news."""
        return [
            w.ticket for w in list(self._waiters.values()) if w.ticket is not None and w.ticket.inbox.peek() is None
        ]

    def hear(self, payload: bytes) -> None:
        """A push: owner, ticket number, token. Anything else is not ours, and not understood."""
        try:
            owner, number, token = payload.decode("ascii").split(" ")
            numbers = int(number), int(token)
        except ValueError:
            return
        waiter = self._waiters.get(owner)
        if waiter is None:
            return
        if waiter.ticket is None:
            waiter.early = numbers
            # The reply may have been bound between the two lines above.
            if waiter.ticket is None:
                return
        self._deliver(waiter.ticket, *numbers)

    def found(self, owner: str, token: int) -> None:
        """Somebody looked: this owner holds its name now."""
        waiter = self._waiters.get(owner)
        if waiter is not None and waiter.ticket is not None:
            self._deliver(waiter.ticket, waiter.ticket.number, token)

    def _deliver(self, ticket: Ticket, number: int, token: int) -> None:
        # A push for an earlier place in line of this owner is not for us: that grant has ended.
        if number == ticket.number:
            claim = ticket.claim
            ticket.inbox.deliver(Grant(claim, token, claim.waiter_ttl, ticket.word_at, confirmed=False))


class Looking:
    """Waiting where no push arrives, behind a transaction pooler: one of the waiters looks, at intervals, for all."""

    def __init__(self, waiters: Waiters, look: Ask) -> None:
        self._waiters = waiters
        self._look = look
        self._taken = False
        self._pause = _FIRST_LOOK

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait."""
        inbox = ticket.inbox
        if self._taken:
            await inbox.wait(_LAST_LOOK if timeout is None else min(timeout, _LAST_LOOK))
            return
        self._taken = True
        try:
            until = None if timeout is None else time.monotonic() + timeout
            self._pause = _FIRST_LOOK
            while inbox.peek() is None and (until is None or time.monotonic() < until):
                left = self._pause if until is None else min(self._pause, until - time.monotonic())
                await inbox.wait(max(0.0, left))
                with suppress(StoreError):  # the keeper's beat tells what is wrong
                    await self._look(self._waiters.tickets())
                self._pause = min(self._pause * 1.5, _LAST_LOOK)
        finally:
            self._taken = False
            for other in self._waiters.tickets()[:1]:
                other.inbox.wake()
