"""How waiters learn of their grants: one connection per client, on which the *server* looks for all of them.

The procedure `wait` (procedures.py) returns as soon as a grant for one of this client's tickets is committed. The first
waiter keeps such a request under way for all waiters of the client, the others sleep; whoever leaves sees to it that
another one goes on. In asyncio no thread is involved.

What wakes the server is the *bell* of whoever stands before the first waiter: a lock of GET_LOCK, held by the session
that put that claim in line, and released by the same session's release (`Bells`). Where there is no bell, or where the
other waiters of this client wait for something else, the server looks again after a pause that grows with the time in
which nothing happened.

It is advice only: what is lost here is found by the beat.
"""

from __future__ import annotations

import threading
from typing import Any, Final, NamedTuple

from locksmith.errors import StoreError
from locksmith.runtime import Runtime
from locksmith.store import Grant, Ticket
from locksmith_sql.mysql.desk import Desk
from locksmith_sql.mysql.errors import clean, translate
from locksmith_sql.mysql.link import Link

LEAST: Final = 500
"""Microseconds between two looks at least."""
MOST: Final = 25_000
"""And at most."""
BOUND: Final = 200_000
"""Microseconds after which a request returns without news, so that its thread can look at the world again."""
# What an idle wait costs when the server cannot be asked; the beats say what is wrong with it.
_TRUST: Final = 1.0
_TROUBLE: Final = 0.1
_RING: Final = "DO RELEASE_LOCK(%s)"


class News(NamedTuple):
    """A grant that was handed to one of our tickets."""

    owner: str
    number: int
    token: int


class Bells:
    """On which connection the bell of each of our owners hangs."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.fresh()

    def fresh(self) -> None:
        """None are ours: this is a new process."""
        self._hung: dict[str, Any] = {}

    def hang(self, owner: str, wire: Any) -> None:
        """The session of this connection holds the owner's bell."""
        self._hung[owner] = wire

    def where(self, owner: str) -> Any | None:
        """The connection that can ring it, or None."""
        return self._hung.get(owner)

    async def rung(self, owner: str, wire: Any) -> None:
        """It was rung, if by the connection on which it hangs. Else that one was busy: it does so when it can."""
        held = self._hung.pop(owner, None)
        if held is not None and held is not wire:
            await self._link.owe(held, _RING, f"locksmith:{owner}")

    def drop(self, owner: str) -> None:
        """Nobody will ring it, because its claim was lost: the connection does when it is used next."""
        held = self._hung.pop(owner, None)
        if held is not None:
            held.owed.append((_RING, f"locksmith:{owner}"))


class Hub:
    """All waiters of one client."""

    def __init__(self, desk: Desk, runtime: Runtime) -> None:
        self._desk = desk
        self._runtime = runtime
        self._now = runtime.clock.now
        self.fresh()

    def fresh(self) -> None:
        """Forget everybody: this is a new process."""
        self._mutex = threading.Lock()
        self._tickets: dict[str, Ticket] = {}
        self._waiting: dict[str, Ticket] = {}
        self._news: dict[str, News] = {}
        self._leader: Ticket | None = None
        self._wire: Any = None
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
                ticket = known
            else:
                self._tickets[owner] = ticket
            self._moved_at = self._now()
            # Its grant may have been found before its thread came here.
            early = self._news.get(owner)
        if early is not None:
            _deliver(ticket, early)
        return ticket

    def forget(self, owner: str) -> None:
        """Nobody waits for this owner's grants any more."""
        with self._mutex:
            self._tickets.pop(owner, None)

    # Waiting.

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """Sleep until the ticket's inbox may have news, and ask for all while nobody else does."""
        ends = None if timeout is None else self._now() + timeout
        with self._mutex:
            self._waiting[ticket.claim.owner] = ticket
        try:
            while ticket.inbox.peek() is None:
                left = _TRUST if ends is None else ends - self._now()
                if left <= 0:
                    return
                if not self._leads(ticket):
                    # Followers look after the leader now and then, in case it died of something that ran no cleanup.
                    await ticket.inbox.wait(min(left, _TRUST))
                elif not await self._look(ticket, left) and ticket.inbox.peek() is None:
                    await ticket.inbox.wait(min(left, _TROUBLE))
        finally:
            self._leave(ticket)

    def _leads(self, ticket: Ticket) -> bool:
        with self._mutex:
            if self._leader is None:
                self._leader = ticket
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

    async def _look(self, first: Ticket, left: float) -> bool:
        """Ask the server for news, for at most so many seconds. False where it could not be asked."""
        bound = min(BOUND, max(0, int(left * 1e6)))
        idle = max(0, int((self._now() - self._moved_at) * 1e6))
        known = ",".join(list(self._news))
        try:
            alone = len(self._tickets) <= 1
            where = (first.claim.key, first.claim.owner, first.number, alone)
            rows = await self._ask((self._desk.link.client, known, *where, idle, LEAST, MOST, bound))
        except StoreError:
            return False
        with self._mutex:
            before, self._news = self._news, {row[0]: News(*row) for row in rows}
            found = [(self._tickets.get(news.owner), news) for news in self._news.values()]
            if any(news.owner not in before for _, news in found):
                self._moved_at = self._now()
        for ticket, news in found:
            if ticket is not None:
                _deliver(ticket, news)
        return True

    async def _ask(self, values: tuple[object, ...]) -> tuple[tuple[Any, ...], ...]:
        link = self._desk.link
        wire, self._wire = self._wire, None
        if wire is None or not wire.ready():
            link.abort(wire)
            wire = await link.open(self._now() + link.server.timeout)
        try:
            seconds = link.server.timeout + BOUND / 1e6
            reply = await self._runtime.settle(wire.ask(self._desk.sql.wait, values, seconds))
        except wire.errors as error:
            if clean(error):
                self._wire = wire
            else:
                link.abort(wire)
            raise translate(error) from error
        except BaseException:
            link.abort(wire)
            raise
        self._wire = wire
        if link.closed:
            await self.close()
        return reply.rows  # type: ignore[no-any-return]

    async def close(self) -> None:
        """End the connection."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await self._desk.link.end(wire)


def _deliver(ticket: Ticket, news: News) -> None:
    if ticket.number == news.number:
        claim = ticket.claim
        ticket.inbox.deliver(Grant(claim, news.token, claim.waiter_ttl, ticket.word_at, confirmed=False))
