"""Who of this client waits for what, and what the end of a key means to them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from locksmith import nodes
from locksmith.store import Gone, Grant, Ticket
from locksmith_etcd.leases import Lease, On

_NEVER: Final = (2**63, 0)
"""The place of somebody who does not stand before us."""


class Place(NamedTuple):
    """A ticket's state: the key it stands in line by, and the lease that key lives on."""

    name: bytes
    key: bytes
    lease: Lease


class _Waiter:
    """One expected or standing place in line, and who stands before it."""

    __slots__ = ("ahead", "ended", "ticket", "used")

    def __init__(self) -> None:
        self.ticket: Ticket | None = None
        self.ahead: dict[str, tuple[int, int]] = {}
        self.used = 0
        # Ends that were told before the reply that says who stands before us.
        self.ended: dict[str, int] = {}


class Waiters:
    """The waiters of one client, by name and owner. Used by their threads and by the reader of the watch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget them all."""
        self._lock = threading.Lock()
        self._names: dict[bytes, dict[str, _Waiter]] = {}

    def expect(self, name: bytes, owner: str) -> None:
        """Somebody is about to join the line: keep what is told meanwhile until `bind`."""
        with self._lock:
            self._names.setdefault(name, {})[owner] = _Waiter()

    def bind(self, ticket: Ticket, ahead: Sequence[nodes.Node]) -> None:
        """This is the expected ticket, behind these nodes."""
        place: Place = ticket.state
        owner = ticket.claim.owner
        with self._lock:
            waiter = self._names.setdefault(place.name, {}).setdefault(owner, _Waiter())
            waiter.ticket = ticket
            waiter.ahead = {node.owner: (node.order, node.permits) for node in ahead}
            waiter.used = sum(node.permits for node in ahead)
            ended, waiter.ended = waiter.ended, {}
            self._end(waiter, ended)

    def forget(self, name: bytes, owner: str) -> None:
        """Nobody waits any more."""
        with self._lock:
            found = self._names.get(name)
            if found is not None:
                found.pop(owner, None)
                if not found:
                    del self._names[name]

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more; its owner may have a newer one."""
        place: Place = ticket.state
        waiter = self._names.get(place.name, {}).get(ticket.claim.owner)
        if waiter is not None and waiter.ticket is ticket:
            self.forget(place.name, ticket.claim.owner)

    def tickets(self) -> list[Ticket]:
        """The tickets without news."""
        with self._lock:
            found = [waiter.ticket for name in self._names.values() for waiter in name.values()]
        return [ticket for ticket in found if ticket is not None and ticket.inbox.peek() is None]

    def any(self) -> bool:
        """Whether somebody waits."""
        return bool(self._names)

    def ended(self, keys: Iterable[tuple[bytes, int]]) -> None:
        """These claims' keys were deleted, each in its revision, by whomever. All that was told at once, at once."""
        ends: dict[bytes, dict[str, int]] = {}
        for key, revision in keys:
            name, slash, owner = key.rpartition(b"/")
            if name + slash in self._names:
                ends.setdefault(name + slash, {})[owner.decode("ascii", "replace")] = revision
        for name, owners in ends.items():
            with self._lock:
                for waiter in self._names.get(name, {}).values():
                    self._end(waiter, owners)

    def _end(self, waiter: _Waiter, owners: dict[str, int]) -> None:
        ticket = waiter.ticket
        if ticket is None:
            waiter.ended |= owners
            return
        # Our own end first: a lease that ends takes all its keys in one revision, those before us and ours.
        if owners.get(ticket.claim.owner, 0) > ticket.number:
            ticket.inbox.deliver(Gone())
            return
        gone = [owner for owner in owners if waiter.ahead.get(owner, _NEVER)[0] < owners[owner]]
        for owner in gone:
            waiter.used -= waiter.ahead.pop(owner)[1]
        if gone and waiter.used + ticket.claim.permits <= ticket.claim.limit:
            ticket.inbox.deliver(grant_of(ticket))


def grant_of(ticket: Ticket) -> Grant:
    """The grant of a ticket whose turn it is, believed in from the last answered word about its lease."""
    lease: Lease = ticket.state.lease
    return Grant(ticket.claim, ticket.number, lease.ttl, lease.since, state=On(lease, ticket.claim.ttl))
