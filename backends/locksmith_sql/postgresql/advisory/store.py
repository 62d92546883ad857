"""`postgresql://...?mode=advisory`: exclusive locks that live by sessions of the server. See docs/stores/postgresql.md.

One session for each ttl takes whatever is free, and has any number of locks. Whoever must wait does so in the server's
own queue, in a session for that name, which has the lock from then on.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Self

from locksmith.errors import GuaranteeMissing, InvalidTTL, StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith.store import Claim, Grant, Guarantee, Held, Inbox, Lost, Ticket, Unknown, Waiting, Word
from locksmith_sql.postgresql import url as urls
from locksmith_sql.postgresql.advisory.people import AdvisoryPeople
from locksmith_sql.postgresql.advisory.session import Hold, Session
from locksmith_sql.postgresql.advisory.sessions import Sessions
from locksmith_sql.postgresql.advisory.statements import AdvisoryStatements
from locksmith_sql.postgresql.base import micros
from locksmith_sql.postgresql.cells import hidden
from locksmith_sql.postgresql.errors import Broken, Late, Refused, Trouble, translate
from locksmith_sql.postgresql.url import Server
from locksmith_sql.postgresql.waiters import PAUSES
from locksmith_sql.postgresql.wire import Result

MAX_TTL: Final = 2_000_000.0
"""Seconds that the server's idle_session_timeout can say."""
_TOMBSTONE: Final = 60.0
_SWEEP_EVERY: Final = 60.0
_logger: Final = logging.getLogger("locksmith")


class AdvisoryStore(AdvisoryPeople):
    """A claim is a session lock. It ends with its session: given back, broken off, or silent for a ttl."""

    guarantees = Guarantee.FENCED | Guarantee.PUSH | Guarantee.CLOCK | Guarantee.SHARED
    by_session = True
    by_connection = True
    heart_from_outside = False
    exclusive_only = True

    def __init__(self, server: Server, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._server = server
        self._statements = AdvisoryStatements(namespace)
        self._sessions = Sessions(server, self._statements, runtime, self._alarm)
        self._link = self._sessions.link
        self._numbers = itertools.count(1)
        self._swept_at = time.monotonic()
        self._fresh()

    def _fresh(self) -> None:
        self._guard = threading.Lock()
        self._holds: dict[str, Hold] = {}
        # Those of this client that wait for a name: the first one does so on the server.
        self._lines: dict[str, list[Ticket]] = {}
        self._tombs: dict[str, float] = {}

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        return cls(urls.from_url(url), runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return f"{self._server.address}?mode=advisory"

    # Taking.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire. Another client of the same owner is refused: a lock is its session's alone."""
        if claim.limit != 1:
            raise GuaranteeMissing(f"{self.address} has exclusive locks only: leave mode=advisory out")
        if claim.ttl > MAX_TTL:
            raise InvalidTTL(f"this store keeps at most {MAX_TTL:.0f} seconds, not {claim.ttl}")
        for ticket in self._lines.get(claim.key, ()):
            if ticket.claim.owner == claim.owner:
                return ticket if queue else None
        try:
            reply = await self._again(claim) or await self._try(claim)
            if reply is None and queue and not self._buried(claim.owner):
                return await self._queue(claim)
        except Trouble as trouble:
            raise translate(trouble) from trouble
        return reply

    async def _try(self, claim: Claim) -> Grant | None:
        until = self._until
        lock = self._statements.lock(claim.key)
        again = False
        while True:
            session = await self._sessions.common(claim.ttl, until)
            hold = Hold(claim.owner, lock, session)
            with self._guard:
                if lock in session.holds or self._buried(claim.owner):
                    return None
                session.holds[lock] = self._holds[claim.owner] = hold
            try:
                _, since = await session.ask(
                    self._statements.take, self._terms(claim, lock), until, partial(self._hear, hold)
                )
            except Broken:
                # Whatever became of the request has ended with its session, of idleness as a rule.
                self._forget(hold)
                if again:
                    raise
                again = True
                continue
            except Refused:
                with suppress(*Trouble):
                    await session.settle(until)
                raise
            return None if hold.over else Grant(claim, hold.token, claim.ttl, since)

    async def _again(self, claim: Claim) -> Grant | None:
        """What this owner has already: its answer was lost, or it asks again."""
        hold = self._holds.get(claim.owner)
        if hold is None:
            return None
        with suppress(Broken):
            if not hold.session.gone:
                _, since = await hold.session.ask(self._statements.alive, [], self._until)
                if self._buried(claim.owner):
                    return None
                if not hold.over and hold.token:
                    return Grant(claim, hold.token, claim.ttl, since)
        self._forget(hold)
        return None

    def _terms(self, claim: Claim, lock: bytes) -> list[bytes | None]:
        info = claim.info.encode("utf-8", "surrogatepass")
        return [lock, claim.key.encode(), hidden(claim.key, claim.name), claim.owner.encode(), micros(claim.ttl), info]

    def _hear(self, hold: Hold, result: Result | None) -> None:
        """What the server says to a request for a lock."""
        if result is None:
            # It may have the lock all the same, and have failed at what comes after: an error does not give it back.
            hold.session.litter.add(hold.lock)
            self._forget(hold)
        elif result.ntuples:
            hold.token = int(result.get_value(0, 0))
        else:
            self._forget(hold)

    def _forget(self, hold: Hold) -> None:
        hold.over = True
        if self._holds.get(hold.owner) is hold:
            del self._holds[hold.owner]
        if hold.session.holds.get(hold.lock) is hold:
            del hold.session.holds[hold.lock]

    @property
    def _until(self) -> float:
        return time.monotonic() + self._server.timeout

    # Waiting.

    async def _queue(self, claim: Claim) -> Ticket:
        ticket = Ticket(claim, next(self._numbers), self.runtime.clock.now(), Inbox(self.runtime.event()))
        with self._guard:
            line = self._lines.setdefault(claim.key, [])
            line.append(ticket)
        try:
            if line[0] is ticket:
                await self._enter(ticket)
        except BaseException:
            self.leave(ticket)
            raise
        return ticket

    async def _enter(self, ticket: Ticket) -> None:
        """Stand in the server's queue."""
        claim, until = ticket.claim, self._until
        lock = self._statements.lock(claim.key)
        while True:
            session, fresh = await self._sessions.spare(claim.ttl, until)
            hold = Hold(claim.owner, lock, session, waits=True)
            session.holds[lock] = self._holds[claim.owner] = ticket.state = hold
            try:
                hold.since = await session.begin(
                    self._statements.wait, self._terms(claim, lock), until, partial(self._hear, hold)
                )
            except Broken:
                self._forget(hold)
                ticket.state = None
                if fresh:
                    raise
            else:
                return

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
            elif self._lines[ticket.claim.key][0] is not ticket:
                await ticket.inbox.wait(left)
            else:
                try:
                    await self._enter(ticket)
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
            self._forget(hold)
        except Late:
            return
        except Refused as refused:
            if ticket.inbox.peek() is None and self._in_line(ticket):
                raise translate(refused) from refused
        if hold.over:
            ticket.state = None
        elif hold.token:
            # The server's count began later than the request was sent: so it may be believed from then on. Where half
            # of that time has gone by, the engine asks once more before it believes.
            claim, since = ticket.claim, hold.since
            if self.runtime.clock.now() > since + claim.ttl / 2:
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

    # Holding.

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat: one word on each session that has some of these."""
        until = time.monotonic() + within
        holds = [self._mine(grant) for grant in grants]
        sessions = list(dict.fromkeys(hold.session for hold in holds if hold is not None))
        said: dict[Session, Word] = {}
        for at, session in enumerate(sessions):
            # One that is not answered leaves the others their share.
            share = (until - time.monotonic()) / (len(sessions) - at)
            said[session] = await self._prove(session, time.monotonic() + max(0.001, share))
        words: list[Word] = []
        for grant, hold in zip(grants, holds, strict=True):
            word = Lost() if hold is None or hold.over else said[hold.session]
            if isinstance(word, Held) and hold is not None and grant.claim.ttl != hold.session.ttl:
                await self._linger(grant, hold, until)
            words.append(word)
        if tickets:
            words += [await self._reached(max(0.001, until - time.monotonic()))] * len(tickets)
        await self._tidy(until)
        return words

    async def _prove(self, session: Session, until: float) -> Word:
        try:
            _, since = await session.ask(self._statements.alive, [], until)
        except Broken:
            self._drop(session)
            return Lost()
        except Trouble as trouble:
            error = translate(trouble)
            return Unknown(error if isinstance(error, StoreUnavailable) else StoreUnavailable(str(error)))
        return Held(session.ttl, since)

    async def _reached(self, within: float) -> Word:
        try:
            _, since, _ = await self._ask(self._statements.now, [], within)
        except StoreError as error:
            return Unknown(error if isinstance(error, StoreUnavailable) else StoreUnavailable(str(error)))
        return Waiting(since)

    def _mine(self, grant: Grant) -> Hold | None:
        hold = self._holds.get(grant.claim.owner)
        if hold is None or hold.token != grant.token or hold.over:
            return None
        if hold.session.gone:
            self._drop(hold.session)
            return None
        return hold

    def _drop(self, session: Session) -> None:
        for hold in list(session.holds.values()):
            self._forget(hold)
        self._sessions.drop(session)

    def _alarm(self) -> None:
        if self.alarm is not None:
            self.alarm()

    async def _linger(self, grant: Grant, hold: Hold, until: float) -> None:
        # A lock cannot move to another session, and ends with its process: nothing would keep the name closed.
        _logger.warning("%r is free at once: mode=advisory keeps no name closed after its holder", grant.claim.name)
        with suppress(*Trouble):
            await self._give(hold, until)

    async def _tidy(self, until: float) -> None:
        """Give back what an abandoned request got after all; delete rows that sessions have left behind."""
        for hold in list(self._holds.values()):
            if self._buried(hold.owner):
                with suppress(*Trouble, StoreError):
                    await self._undo(hold, until)
        if time.monotonic() - self._swept_at > _SWEEP_EVERY:
            self._swept_at = time.monotonic()
            with suppress(StoreError):
                start = b"%d" % (secrets.randbits(64) - (1 << 63))
                await self._ask(self._statements.sweep, [start], max(0.001, until - time.monotonic()))

    # Giving back.

    async def release(self, grant: Grant) -> bool:
        """See Store.release. False also where the session broke just now: its lock may have ended before."""
        hold = self._mine(grant)
        if hold is None:
            return False
        try:
            return await self._give(hold, self._until)
        except Broken:
            self._drop(hold.session)
            return False
        except Trouble as trouble:
            raise translate(trouble) from trouble

    async def _give(self, hold: Hold, until: float) -> bool:
        session = hold.session
        given: list[bool] = []

        def hear(result: Result | None) -> None:
            if result is None:
                session.litter.add(hold.lock)
            given.append(result is None or result.get_value(0, 0) == b"t")
            self._forget(hold)

        try:
            await session.ask(self._statements.give, [hold.lock, b"%d" % hold.token], until, hear)
        except Refused:
            await session.settle(until)
        self._sessions.take_back(session)
        return given[0]

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """See Store.abandon."""
        if tombstone:
            now = time.monotonic()
            self._tombs = {owner: ends for owner, ends in self._tombs.items() if ends > now}
            self._tombs[claim.owner] = now + _TOMBSTONE
        for ticket in tuple(self._lines.get(claim.key, ())):
            if ticket.claim.owner == claim.owner:
                self.leave(ticket)
        hold = self._holds.get(claim.owner)
        if hold is not None:
            try:
                await self._undo(hold, self._until)
            except Trouble as trouble:
                raise translate(trouble) from trouble

    async def _undo(self, hold: Hold, until: float) -> None:
        session = hold.session
        try:
            if hold.waits and not hold.token:
                # Nothing else lives in it, and the server would see only after a while that it was closed.
                if not session.gone:
                    await self._ask(self._statements.end, [session.pid], until - time.monotonic())
                await session.quit(until)
                self._drop(session)
                return
            await session.settle(until)
            if not hold.over:
                await self._give(hold, until)
        except Broken:
            self._drop(session)

    def _buried(self, owner: str) -> bool:
        return self._tombs.get(owner, 0.0) > time.monotonic()

    # Life.

    async def close(self) -> None:
        """See Store.close."""
        await self._sessions.close()
        await self.runtime.settle(self._link.close())

    def after_fork(self) -> None:
        """See Store.after_fork."""
        self._sessions.after_fork()
        self._link.after_fork()
        self._fresh()
