"""Who of this client waits for what, and what a push means to them: shared by both hubs."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis import exceptions as driver

from locksmith.store import Grant, Ticket
from locksmith_redis.scripts import Keys, request

PAUSES: Final = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Seconds between attempts to subscribe again; the last one repeats."""

_CONFIRMED: Final = (b"subscribe", b"ssubscribe")
_PUSHES: Final = (b"message", b"smessage")

Recheck = Callable[[list[Ticket]], Awaitable[None]]
"""Asks the store about these tickets at once, and delivers what it says."""


class _Waiter:
    """One expected or standing place in line."""

    __slots__ = ("early", "ticket")

    def __init__(self) -> None:
        self.ticket: Ticket | None = None
        self.early: tuple[int, int] | None = None


class Waiters:
    """The tickets of one client by owner. Dictionary operations are atomic, so threads need no lock here."""

    confirm_first = False
    """Whether a handed-over grant is believed only once a beat has confirmed it, instead of from the last word on."""

    def __init__(self, keys: Keys, tag: bytes = b"") -> None:
        self._keys = keys
        self._tag = tag
        self.reset()

    def reset(self) -> None:
        """Begin anew, on a channel that no other process hears."""
        self.channel = self._keys.channel(os.urandom(8).hex().encode(), self._tag)
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

    def any(self) -> bool:
        """Whether somebody waits, or is about to."""
        return bool(self._waiters)

    def tickets(self) -> list[Ticket]:
        """The tickets without news."""
        return [
            w.ticket for w in list(self._waiters.values()) if w.ticket is not None and w.ticket.inbox.peek() is None
        ]

    @property
    def subscription(self) -> bytes:
        """The request that subscribes to our channel."""
        return request(b"SSUBSCRIBE" if self._tag else b"SUBSCRIBE", self.channel)

    def confirms(self, message: list[Any]) -> bool:
        """Whether this message says that we are subscribed. Raises the driver's error where it says that we are not."""
        if message[0] == b"sunsubscribe":
            raise driver.ConnectionError("the channel's slot has moved to another node")
        return message[0] in _CONFIRMED

    def hear(self, message: list[Any]) -> None:
        """A message of our channel: owner, ticket number, token. Anything else is not ours, and not understood."""
        try:
            kind, _, payload = message
            owner, number, token = payload.decode("ascii").split(" ")
            numbers = int(number), int(token)
        except (ValueError, TypeError, AttributeError):
            return
        waiter = self._waiters.get(owner)
        if waiter is None or kind not in _PUSHES:
            return
        if waiter.ticket is None:
            waiter.early = numbers
            # The reply may have been bound between the two lines above.
            if waiter.ticket is None:
                return
        self._deliver(waiter.ticket, *numbers)

    def _deliver(self, ticket: Ticket, number: int, token: int) -> None:
        # A push for an earlier place in line of this owner is not for us: that grant has ended.
        if number == ticket.number:
            ticket.inbox.deliver(self.handed(ticket, token))

    def handed(self, ticket: Ticket, token: int) -> Grant:
        """The grant that a ticket has got."""
        since = -math.inf if self.confirm_first else ticket.word_at
        return Grant(ticket.claim, token, ticket.claim.waiter_ttl, since, confirmed=False)
