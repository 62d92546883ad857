"""How waiters learn of their grants: one of them polls `PRAGMA data_version` for all waiters of the client.

The pragma reads one number of the log's shared memory (3 us, no lock, no disk) that changes when another connection
commits. Only then are the grants of this client looked up. The first waiter polls, the others sleep; whoever leaves
sees to it that another one goes on. What this very process hands over is delivered in memory at once.

The pauses between two looks follow the line: a tenth of the time since it last moved, longer for who stands further
back, between half a millisecond and 25. So a hand-off takes about a tenth longer than the work that it waited for, and
a long wait costs 40 looks a second. A commit about other names changes nothing about this.
"""

from __future__ import annotations

import threading
from typing import Final

from locksmith.errors import StoreError
from locksmith.runtime import Runtime
from locksmith.store import Grant, Ticket
from locksmith_sql.sqlite.changes import data_version
from locksmith_sql.sqlite.connection import Desk, Link
from locksmith_sql.sqlite.ledger import Handover

SHORTEST: Final = 0.0005
LONGEST: Final = 0.025
_SHARE: Final = 0.1
# Of how many tickets the place in line is looked at: it only sets the pace.
_WATCHED: Final = 16
# Grants kept for threads that have not come to `expect`; a lost one is found by the beat.
_EARLY: Final = 1024
# Followers look after the leader now and then, in case it died of something that ran no cleanup.
_TRUST: Final = 1.0


class Hub:
    """All waiters of one client."""

    def __init__(self, desk: Desk, runtime: Runtime) -> None:
        self._desk = desk
        self._runtime = runtime
        self.fresh()

    def fresh(self) -> None:
        """Forget everybody: this is a new process."""
        self._mutex = threading.Lock()
        self._tickets: dict[str, Ticket] = {}
        self._waiting: dict[str, Ticket] = {}
        self._early: dict[str, Handover] = {}
        self._leader: Ticket | None = None
        self._seen: tuple[int, int] | None = None
        self._stale = True
        self._fronts: dict[str, int] = {}
        self._behind = 0
        self._moved_at = 0.0

    # Tickets.

    def expect(self, ticket: Ticket) -> Ticket:
        """Deliver this ticket's grant from now on; the ticket to use is returned (an equal one may be known)."""
        owner = ticket.claim.owner
        with self._mutex:
            known = self._tickets.get(owner)
            if known is not None and known.number == ticket.number:
                known.word_at = ticket.word_at
                known.head_expires_in = ticket.head_expires_in
                return known
            self._tickets[owner] = ticket
            # Its grant may have been committed before anybody looked for it.
            self._stale = True
            early = self._early.pop(owner, None)
        if early is not None:
            _deliver(ticket, early)
        return ticket

    def forget(self, owner: str) -> None:
        """Nobody waits for this owner's grants any more."""
        with self._mutex:
            self._tickets.pop(owner, None)
            self._early.pop(owner, None)

    def hand(self, handed: list[Handover]) -> None:
        """Deliver what one of this client's own transactions granted."""
        for news in handed:
            with self._mutex:
                ticket = self._tickets.get(news.owner)
                if ticket is None:
                    # Its enqueue was committed, and its thread has not come to `expect` yet.
                    if len(self._early) >= _EARLY:
                        self._early.clear()
                    self._early[news.owner] = news
            if ticket is not None:
                _deliver(ticket, news)

    # Waiting.

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """Sleep until the ticket's inbox may have news, and poll for all while nobody else does."""
        clock = self._runtime.clock
        ends = None if timeout is None else clock.now() + timeout
        owner = ticket.claim.owner
        with self._mutex:
            self._waiting[owner] = ticket
        try:
            while ticket.inbox.peek() is None:
                left = None if ends is None else ends - clock.now()
                if left is not None and left <= 0:
                    return
                pause = await self._look() if self._leads(ticket) else _TRUST
                if ticket.inbox.peek() is None:
                    await ticket.inbox.wait(pause if left is None else min(pause, left))
        finally:
            self._leave(ticket)

    def _leads(self, ticket: Ticket) -> bool:
        with self._mutex:
            if self._leader is None:
                self._leader = ticket
                self._moved_at = self._runtime.clock.now()
            return self._leader is ticket

    def _leave(self, ticket: Ticket) -> None:
        with self._mutex:
            if self._waiting.get(ticket.claim.owner) is ticket:
                del self._waiting[ticket.claim.owner]
            if self._leader is ticket:
                self._leader = None
            heir = next(iter(self._waiting.values()), None) if self._leader is None else None
        # Also by a follower that leaves: it may have been the one who was called to lead.
        if heir is not None:
            heir.inbox.wake()

    async def _look(self) -> float:
        """Look for news once, and say how long to pause."""
        try:
            if not self._desk.polling:
                await self._runtime.call(lambda: self._desk.poll(data_version))
            # Straight from the event loop: 3 us, and nothing in it can wait.
            seen = self._desk.poll(data_version)
            if self._stale or seen != self._seen:
                self._stale = False
                await self._runtime.call(self._read)
                self._seen = seen
        except StoreError:
            # The beats ask the same store, and say what is wrong with it.
            self._stale = True
            return LONGEST
        idle = self._runtime.clock.now() - self._moved_at
        return min(max(idle * _SHARE, SHORTEST * self._behind, SHORTEST), LONGEST)

    def _read(self) -> None:
        with self._mutex:
            watched = [ticket for ticket, _ in zip(self._tickets.values(), range(_WATCHED), strict=False)]
        handed, fronts = self._desk.poll(lambda link: _news(link, self._desk.client, watched))
        for news in handed:
            with self._mutex:
                ticket = self._tickets.get(news.owner)
            if ticket is not None:
                _deliver(ticket, news)
        behind = [t.number - fronts[t.claim.key] for t in watched if t.claim.key in fronts]
        self._behind = max(min(behind, default=0), 0)
        if fronts != self._fronts:
            self._fronts = fronts
            self._moved_at = self._runtime.clock.now()


def _news(link: Link, client: str, watched: list[Ticket]) -> tuple[list[Handover], dict[str, int]]:
    handed = [Handover(*row) for row in link.cursor.execute(link.sql.news, (client,)).fetchall()]
    fronts = {}
    for key in {ticket.claim.key for ticket in watched}:
        row = link.cursor.execute(link.sql.front, (key,)).fetchone()
        fronts[key] = row[0] if row else 0
    return handed, fronts


def _deliver(ticket: Ticket, news: Handover) -> None:
    if ticket.number == news.number:
        claim = ticket.claim
        ticket.inbox.deliver(Grant(claim, news.token, claim.waiter_ttl, ticket.word_at, confirmed=False))
