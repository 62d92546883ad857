"""The rules of the store interface, applied to one name at a time inside one immediate transaction.

Opening a name first expires what is due and then grants from the head of the line, so that no operation ever sees, or
leaves, a name in which something could have been granted (rules 5 and 6 of the interface). The cost of opening does not
grow with holders or waiters: due holders come from an index, waiters only from the head of the line.

An immediate transaction holds the database's only write lock from its first statement on. So nothing that is read here
can change before it is written back, and no release can miss an enqueue (on servers with row locks and snapshots that
takes more: see docs/architecture.md).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final, NamedTuple

from locksmith.store import Claim
from locksmith_sql.sqlite.clock import MICROS, micros
from locksmith_sql.sqlite.statements import Statements

TOMBSTONE: Final = 60 * MICROS
"""How long an abandoned owner is refused: longer than a stalled request lives."""


class Handover(NamedTuple):
    """A grant that went to the head of the line; told to its client once the transaction is committed."""

    owner: str
    number: int
    token: int


class _Head(NamedTuple):
    number: int
    owner: str
    client: str
    permits: int
    expires: int
    waiter_ttl: int
    delay: int
    info: str


@dataclass(slots=True)
class Name:
    """One row of the lease table, in the order of its columns."""

    key: str
    name: bytes | None
    token: int = 0
    limit: int = 1
    era: int = 0
    owner: str | None = None
    expires: int = 0
    since: int = 0
    ttl: int = 0
    delay: int = 0
    info: str = ""
    used: int = 0
    busy: int = 0
    tickets: int = 0
    tombs: int = 0
    closed: int = 0
    seen: int = 0
    # Not columns.
    dirty: bool = False
    head: int = 0
    head_permits: int = 0

    def row(self) -> tuple[object, ...]:
        """The columns."""
        return (
            self.key, self.name, self.token, self.limit, self.era, self.owner, self.expires, self.since, self.ttl,
            self.delay, self.info, self.used, self.busy, self.tickets, self.tombs, self.closed, self.seen,
        )  # fmt: skip

    @property
    def live(self) -> bool:
        """Whether the name has holders or waiters. True of an opened name means: live ones."""
        return self.owner is not None or self.used > 0 or self.busy > 0


class Ledger:
    """The names opened in one transaction. Save it before the commit."""

    def __init__(self, cursor: sqlite3.Cursor, sql: Statements, era: int, now: int, wall: int, client: str) -> None:
        self.cursor = cursor
        self.sql = sql
        self.era = era
        self.now = now
        self.wall = wall
        self.client = client
        self.opened: dict[str, Name] = {}
        self.handed: list[Handover] = []

    def open(self, key: str, name: str = "") -> Name:
        """The name with everything due expired and everything free granted. Each name is opened once."""
        found = self.opened.get(key)
        if found is None:
            found = self.load(key, name)
            self.settle(found)
        return found

    def load(self, key: str, name: str = "") -> Name:
        """The name as it was left, with what is due still in it: settle it before anything else is decided."""
        found = self.opened.get(key)
        if found is None:
            row = self.cursor.execute(self.sql.load, (key,)).fetchone()
            found = Name(*row) if row else Name(key, original(key, name), era=self.era)
            self.opened[key] = found
            if found.era != self.era:
                self._adopt(found)
        return found

    def save(self) -> None:
        """Write back what changed."""
        for name in self.opened.values():
            if name.dirty:
                name.seen = self.wall
                self.cursor.execute(self.sql.save, name.row())

    def settle(self, name: Name) -> None:
        """Expire what is due, then grant from the head of the line."""
        self.expire(name)
        name.head = 0
        while name.busy:
            row = self.cursor.execute(self.sql.head, (name.key,)).fetchone()
            if row is None:
                # Somebody deleted rows by hand: the count follows.
                name.busy, name.dirty = 0, True
                return
            head = _Head(*row)
            name.head, name.head_permits = head.number, head.permits
            if head.expires > self.now and (name.closed > self.now or not self.fits(name, head.permits)):
                return
            self._leave_line(name, head.number)
            if head.expires > self.now:
                self._hand_over(name, head)

    def fits(self, name: Name, permits: int) -> bool:
        """Whether so many permits are free."""
        return (1 if name.owner is not None else name.used) + permits <= name.limit

    def hold(self, name: Name, owner: str, permits: int, ttl: int, delay: int, info: str) -> int:
        """Grant permits to the owner for `ttl`, and return the token."""
        name.token = max(name.token + 1, self.wall)
        name.dirty = True
        expires = self.now + ttl
        if name.limit == 1:
            name.owner, name.expires, name.since, name.ttl = owner, expires, self.now, ttl
            name.delay, name.info = delay, info
        else:
            row = (name.key, owner, name.token, permits, expires, self.now, ttl, delay, info)
            self.cursor.execute(self.sql.hold, row)
            name.used += permits
        return name.token

    def token_of(self, name: Name, owner: str) -> int | None:
        """The token this owner holds the opened name with, or None."""
        if name.owner == owner:
            return name.token
        if name.used:
            row = self.cursor.execute(self.sql.holder, (name.key, owner)).fetchone()
            return int(row[0]) if row else None
        return None

    def rearm(self, name: Name, owner: str, ttl: int) -> None:
        """Count the ttl of a holder from now."""
        name.dirty = True
        if name.owner == owner:
            name.expires, name.ttl = self.now + ttl, ttl
        else:
            self.cursor.execute(self.sql.rearm, (self.now + ttl, ttl, name.key, owner))

    def unhold(self, name: Name, owner: str, *, lost: bool = False) -> bool:
        """Take the permits from a holder; `lost` closes the name for its lock_delay. False where it holds nothing."""
        if name.owner == owner:
            name.owner = None
            ended, delay = min(name.expires, self.now), name.delay
        else:
            row = self.cursor.execute(self.sql.holder, (name.key, owner)).fetchone() if name.used else None
            if row is None:
                return False
            self.cursor.execute(self.sql.unhold, (name.key, owner))
            name.used -= row[1]
            ended, delay = min(row[2], self.now), row[3]
        name.dirty = True
        if lost and delay:
            name.closed = max(name.closed, ended + delay)
            name.delay = delay
        return True

    def place(self, name: Name, owner: str) -> int | None:
        """The ticket this owner has in the line of the opened name, or None."""
        if not name.busy:
            return None
        row = self.cursor.execute(self.sql.place, (name.key, owner)).fetchone()
        return int(row[0]) if row else None

    def enqueue(self, name: Name, claim: Claim) -> int:
        """Put a claim at the tail of the line, and return its ticket's number."""
        name.tickets += 1
        name.busy += 1
        if not name.head:
            name.head, name.head_permits = name.tickets, claim.permits
        name.dirty = True
        waiter_ttl = micros(claim.waiter_ttl)
        row = (
            name.key, name.tickets, claim.owner, self.client, claim.permits, self.now + waiter_ttl, self.now,
            waiter_ttl, micros(claim.lock_delay), plain(claim.info),
        )  # fmt: skip
        self.cursor.execute(self.sql.enqueue, row)
        return name.tickets

    def drop(self, name: Name, number: int) -> None:
        """Take a ticket out of the line."""
        self._leave_line(name, number)

    def entombed(self, name: Name, owner: str) -> bool:
        """Whether this owner was abandoned for good."""
        return bool(name.tombs) and self.cursor.execute(self.sql.tomb, (name.key, owner)).fetchone() is not None

    def entomb(self, name: Name, owner: str) -> None:
        """Refuse this owner from now on."""
        if not self.entombed(name, owner):
            name.tombs += 1
        name.dirty = True
        self.cursor.execute(self.sql.bury, (name.key, owner, self.now + TOMBSTONE))

    def head_expires_in(self, name: Name, number: int) -> float | None:
        """Seconds until there will be something to expire for this ticket, if it is the head of the line."""
        if name.head != number:
            return None
        ends = self.now
        if self.fits(name, name.head_permits):
            pass  # only a lock_delay is in its way
        elif name.owner is not None:
            ends = name.expires
        elif name.used:
            row = self.cursor.execute(self.sql.next_due, (name.key,)).fetchone()
            ends = row[0] if row else ends
        return (max(name.closed, ends) - self.now) / MICROS

    def expire(self, name: Name) -> None:
        """End what is due, and grant nothing yet."""
        if name.owner is not None and name.expires <= self.now:
            self.unhold(name, name.owner, lost=True)
        if name.used:
            for row in self.cursor.execute(self.sql.due, (name.key, self.now)).fetchall():
                self.unhold(name, row[0], lost=True)
        if name.tombs:
            name.tombs -= self.cursor.execute(self.sql.tombs_due, (name.key, self.now)).rowcount
            name.dirty = True

    def _leave_line(self, name: Name, number: int) -> None:
        self.cursor.execute(self.sql.dequeue, (name.key, number))
        name.busy -= 1
        name.head = 0
        name.dirty = True

    def _hand_over(self, name: Name, head: _Head) -> None:
        # Nobody has confirmed this yet: a lease of waiter_ttl, so that a dead waiter costs no more than that.
        token = self.hold(name, head.owner, head.permits, head.waiter_ttl, head.delay, head.info)
        if head.client == self.client:
            self.handed.append(Handover(head.owner, head.number, token))
        else:
            self.cursor.execute(self.sql.tell, (head.client, head.owner, head.number, token, self.wall))

    def _adopt(self, name: Name) -> None:
        # Moments of another clock say nothing about now: wait out everything in full on this one (see clock.py).
        name.expires, name.since = self.now + name.ttl, self.now
        if name.closed:
            name.closed = self.now + name.delay
        if name.used or name.busy or name.tombs:
            values = {"now": self.now, "key": name.key, "tomb": TOMBSTONE}
            for statement in self.sql.adopt:
                self.cursor.execute(statement, values)
        name.era = self.era
        name.dirty = True


def original(key: str, name: str) -> bytes | None:
    """What to keep of a name beside its key: nothing unless the key only holds a hash."""
    return name.encode("utf-8", "surrogatepass") if "~~" in key else None


def plain(info: str) -> str:
    """Text that SQLite can store: lone surrogates are no UTF-8."""
    return info if info.isascii() else info.encode("utf-8", "replace").decode("utf-8")
