"""Standing in line: on the server, in a session for each name that somebody of this client waits for."""

from __future__ import annotations

import itertools
import time
from contextlib import suppress
from functools import partial
from typing import Final

from locksmith.errors import StoreError, StoreUnavailable
from locksmith.store import Claim, Grant, Inbox, Ticket
from locksmith_sql.postgresql.advisory.session import Hold, Session
from locksmith_sql.postgresql.advisory.taking import Taking
from locksmith_sql.postgresql.errors import Broken, Late, Refused, Trouble, translate
from locksmith_sql.postgresql.waiters import PAUSES

_CROWDED: Final = 1.0
_BRIEFLY: Final = 0.02
"""Seconds in line before a place there is kept by the engine, which costs as much as a fast hand-over."""
_CROWDS: Final = 1000

_numbers: Final = itertools.count(1)


class Line(Taking):
    """Those of one client that wait. The first one for a name does so on the server, the others behind it."""

    def _is_crowded(self, key: str) -> bool:
        """Whether a try would be in vain, as far as we know; one of this client at a time need not try."""
        ends = self._crowded.get(key)
        return ends is not None and ends > time.monotonic() and key not in self._lines and key not in self._brief

    def _note_crowd(self, claim: Claim) -> None:
        """A try was in vain: for a while this name's next ones go straight to the server's queue."""
        now = time.monotonic()
        if len(self._crowded) > _CROWDS:
            self._crowded = {key: ends for key, ends in self._crowded.items() if ends > now}
        self._crowded[claim.key] = now + _CROWDED

    async def _wait_briefly(self, claim: Claim) -> Grant | Ticket | None:
        """Where a name changes hands fast the turn has come before it would pay to be told of it."""
        self._brief.add(claim.key)
        try:
            hold = await self._enter(claim, _BRIEFLY)
            if hold is None:
                return None
            if hold.token:
                return Grant(claim, hold.token, claim.ttl, hold.since)
            return None if self._buried(claim.owner) else self._ticket(claim, hold)
        finally:
            self._brief.discard(claim.key)

    async def _queue(self, claim: Claim) -> Ticket | None:
        ticket = self._ticket(claim)
        try:
            if self._lines[claim.key][0] is ticket:
                ticket.state = await self._enter(claim)
        except BaseException:
            self.leave(ticket)
            raise
        if self._buried(claim.owner):
            self.leave(ticket)
            return None
        return ticket

    def _ticket(self, claim: Claim, hold: Hold | None = None) -> Ticket:
        now = self.runtime.clock.now()
        ticket = Ticket(claim, next(_numbers), now, Inbox(self.runtime.event()), state=hold)
        with self._guard:
            self._lines.setdefault(claim.key, []).append(ticket)
        return ticket

    async def _enter(self, claim: Claim, seconds: float = 0.0) -> Hold | None:
        """Stand in the server's queue, and wait so long for the turn. None for whoever was abandoned meanwhile."""
        lock = self._statements.lock(claim.key)
        while True:
            session, fresh = await self._sessions.spare(claim.ttl, self._until)
            hold = Hold(claim.owner, lock, session, waits=True)
            hold.since = self.runtime.clock.now()
            session.holds[lock] = self._holds[claim.owner] = hold
            if self._buried(claim.owner):  # whoever abandons it later than this finds the hold
                self._forget(hold)
                self._sessions.take_back(session)
                return None
            try:
                await session.begin(self._statements.wait, self._terms(claim, lock), seconds, partial(self._hear, hold))
            except Broken:
                self._drop(session)
                if fresh:
                    raise
            except Refused:
                await self._tidied(session)
                raise
            else:
                return hold

    async def _tidied(self, session: Session) -> None:
        """What was refused may have got the lock before."""
        with suppress(*Trouble):
            await session.settle(self._until)
            self._sessions.take_back(session)

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait. Raises StoreError where for a waiter_ttl there was no way into the server's queue."""
        until = None if timeout is None else time.monotonic() + timeout
        failing, failures = 0.0, 0
        while ticket.inbox.peek() is None and self._in_line(ticket):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            if ticket.state is not None:
                await self._hear_of(ticket, until)
            elif self._lines.get(ticket.claim.key, [ticket])[0] is not ticket:
                await ticket.inbox.wait(left)
            else:
                try:
                    ticket.state = await self._enter(ticket.claim)
                    failures = 0
                except (*Trouble, StoreUnavailable) as trouble:
                    failing = failing if failures else time.monotonic()
                    failures += 1
                    if time.monotonic() - failing > ticket.claim.waiter_ttl:
                        raise trouble if isinstance(trouble, StoreError) else translate(trouble) from trouble
                    pause = PAUSES[min(failures, len(PAUSES) - 1)]
                    await ticket.inbox.wait(pause if left is None else min(pause, left))

    async def _hear_of(self, ticket: Ticket, until: float | None) -> None:
        hold: Hold = ticket.state
        try:
            await hold.session.hear(ticket.inbox, until, self._server.timeout)
        except Broken:
            self._drop(hold.session)
        except Late:
            return
        except Refused as refused:
            await self._tidied(hold.session)
            if ticket.inbox.peek() is None and self._in_line(ticket):
                raise translate(refused) from refused
        if hold.over:
            ticket.state = None
        elif hold.token:
            # The server's count began later than the request was sent: so it may be believed from then on. Where half
            # of that time has gone by, the engine asks once more before it believes.
            claim, since = ticket.claim, hold.since
            if self.runtime.clock.now() > since + claim.ttl / 2:
                if hold.session.gone:
                    self._drop(hold.session)
                    ticket.state = None
                    return
                since -= claim.ttl
            self.leave(ticket)
            ticket.inbox.deliver(Grant(claim, hold.token, claim.ttl, since))

    def _in_line(self, ticket: Ticket) -> bool:
        return ticket in self._lines.get(ticket.claim.key, ())

    def leave(self, ticket: Ticket) -> None:
        """See Store.leave. The next one of this client goes to stand in the server's queue."""
        with self._guard:
            line = self._lines.get(ticket.claim.key, [])
            if ticket not in line:
                return
            line.remove(ticket)
            heir = line[0] if line else None
            if heir is None:
                del self._lines[ticket.claim.key]
        if heir is not None:
            heir.inbox.wake()
