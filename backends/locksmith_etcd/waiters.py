"""Who of this client waits for what, and what the end of a key means to them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

from locksmith import nodes
from locksmith.store import Gone, Grant, Ticket
from locksmith_etcd.leases import Lease


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
            for ended_owner, revision in ended.items():
                self._end(waiter, ended_owner, revision)

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

    def ended(self, key: bytes, revision: int) -> None:
        """A claim's key was deleted in this revision, by whomever."""
        name, slash, owner = key.rpartition(b"/")
        if name + slash not in self._names:
            return
        with self._lock:
            for waiter in self._names.get(name + slash, {}).values():
                self._end(waiter, owner.decode("ascii", "replace"), revision)

    def _end(self, waiter: _Waiter, owner: str, revision: int) -> None:
        ticket = waiter.ticket
        if ticket is None:
            waiter.ended[owner] = revision
            return
        if owner == ticket.claim.owner:
            if revision > ticket.number:
                ticket.inbox.deliver(Gone())
            return
        order, permits = waiter.ahead.get(owner, (revision, 0))
        if order >= revision:
            return  # it ended before it stood before us
        del waiter.ahead[owner]
        waiter.used -= permits
        if waiter.used + ticket.claim.permits <= ticket.claim.limit:
            ticket.inbox.deliver(grant_of(ticket))


def grant_of(ticket: Ticket) -> Grant:
    """The grant of a ticket whose turn it is, believed in from the last answered word about its lease."""
    lease: Lease = ticket.state.lease
    return Grant(ticket.claim, ticket.number, lease.ttl, lease.since, state=lease)
