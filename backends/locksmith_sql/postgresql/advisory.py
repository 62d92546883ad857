"""`postgresql://...?mode=advisory`: session locks. docs/stores/postgresql.md says what they promise, and when.

A name is a 64-bit key of the server's advisory locks. One session for each ttl carries all locks of a client; whoever
waits does so in a session of its own, in the server's queue.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Self

from locksmith.errors import ClientClosed, GuaranteeMissing, InvalidTTL, StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith.store import Claim, Grant, Guarantee, Held, Inbox, Lost, Ticket, Unknown, Waiting, Word
from locksmith_sql.postgresql import url as urls
from locksmith_sql.postgresql.advisory_people import AdvisoryPeople
from locksmith_sql.postgresql.advisory_session import Session
from locksmith_sql.postgresql.advisory_sql import AdvisoryStatements
from locksmith_sql.postgresql.base import micros, number, numbers
from locksmith_sql.postgresql.cells import hidden
from locksmith_sql.postgresql.errors import Late, Refused, Trouble, translate
from locksmith_sql.postgresql.link import keep_for_ever
from locksmith_sql.postgresql.statements import MICROS
from locksmith_sql.postgresql.url import Server

WAITING: Final = 16
"""Sessions of one client that wait in the server's queue, at most; further waiters try again at random moments."""
MAX_TTL: Final = 2_000_000.0
"""Seconds that idle_session_timeout can say."""
_TOMBSTONE: Final = 60.0
_NAP: Final = 0.02
_SLICE: Final = 0.05
_SWEEP_EVERY: Final = 15.0


class _Hold:
    """A name that this client has, or tries to get."""

    __slots__ = ("giving", "owner", "session", "token", "wire")

    def __init__(self, owner: str, session: Session, wire: Any = None, token: int = 0) -> None:
        self.owner = owner
        self.session = session
        self.wire = wire
        self.token = token
        self.giving = False

    @property
    def ended(self) -> bool:
        """Whether the session that had the lock is no more."""
        return self.wire is not None and self.session.gone(self.wire)


class _Place:
    """What a waiter waits with."""

    __slots__ = ("asked", "delivered", "session", "since")

    def __init__(self, since: float) -> None:
        self.session: Session | None = None
        self.asked = False
        self.delivered = False
        self.since = since


class AdvisoryStore(AdvisoryPeople):
    """Exclusive locks alone, that end with their session."""

    guarantees = Guarantee.FENCED | Guarantee.CLOCK | Guarantee.SHARED
    by_session = True
    exclusive_only = True

    def __init__(self, server: Server, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._server = server
        self._statements = AdvisoryStatements(namespace)
        now = runtime.clock.now
        if runtime.is_async:
            from locksmith_sql.postgresql.link_async import AsyncLink

            self._link: Any = AsyncLink(server, self._statements, now, runtime)  # type: ignore[arg-type]
        else:
            from locksmith_sql.postgresql.link import Link

            self._link = Link(server, self._statements, now)  # type: ignore[arg-type]
        self._closed = False
        self._swept_at = time.monotonic()
        self._numbers = itertools.count(1)
        self._fresh()

    def _fresh(self) -> None:
        self._guard = threading.Lock()
        self._sessions: dict[float, Session] = {}
        self._spares: dict[float, list[Session]] = {}
        self._waiting: set[Session] = set()
        self._holds: dict[str, _Hold] = {}
        self._trying: dict[str, _Hold] = {}
        self._tombs: dict[str, float] = {}

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        return cls(urls.from_url(url), runtime, namespace)

    @property
    def address(self) -> str:
        return f"{self._server.address}?mode=advisory"

    # Claims.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire. A ticket is a place in no line: `wait` takes one on the server."""
        if claim.limit != 1:
            raise GuaranteeMissing(f"{self.address} has exclusive locks only: leave mode=advisory out")
        if claim.ttl > MAX_TTL:
            raise InvalidTTL(f"this store keeps at most {MAX_TTL:.0f} seconds, not {claim.ttl}")
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        if self._buried(claim.owner):
            return None
        reply = await self._try(claim)
        if reply is not None or not queue:
            return reply
        now = self.runtime.clock.now()
        return Ticket(claim, next(self._numbers), now, Inbox(self.runtime.event()), state=_Place(now))

    async def _try(self, claim: Claim) -> Grant | None:
        session = self._session(claim.ttl)
        with self._guard:
            hold = self._holds.get(claim.key)
            mine = None
            # Locks are re-entrant for their session: two requests of ours for one name must never be under way in it.
            if claim.key in self._trying:
                return None
            if hold is None or hold.ended:
                mine = self._trying[claim.key] = _Hold(claim.owner, session)
        if mine is None:
            if hold.owner == claim.owner and hold.wire is not None and not hold.giving:
                return await self._again(claim, hold)
            return await self._try(claim) if await self._has_ended(claim, hold) else None
        try:
            answer = await self._take(session, claim)
            if answer is None or answer[0] <= 0:
                return None if answer is None else self._others(claim, answer)
            token, since, wire = answer
            mine.token = token
            mine.wire = wire
            with self._guard:
                self._holds[claim.key] = mine
        finally:
            with self._guard:
                del self._trying[claim.key]
        return Grant(claim, token, claim.ttl, since)

    async def _take(self, session: Session, claim: Claim) -> Any:
        """Token, clock and connection; None where somebody else has the name; for our own owner elsewhere its token
        below zero, the clock of its session's last word, and no connection.
        """
        lock = self._statements.lock(claim.key)
        with _translated():
            said = await session.ask(self._statements.take, self._terms(claim, lock, b"f"), self._timeout, doubt=lock)
        assert said is not None
        result, since, wire = said
        found = numbers(result.get_value(0, 0))
        if not found:
            return None
        return (found[0], since, wire) if len(found) == 1 else (found[0], since - found[1] / MICROS, None)

    def _others(self, claim: Claim, answer: Any) -> Grant:
        """This owner's grant, which another client has: it lives by that one's session, and cannot be renewed here."""
        return Grant(claim, -answer[0], claim.ttl, answer[1])

    async def _has_ended(self, claim: Claim, hold: Any) -> bool:
        """Whether the server has ended the session of this hold and we have not been told yet. No word of that session."""
        if hold.wire is None or hold.giving:
            return False
        if hold.token in [view.token for view in (await self.inspect(claim.name)).holders]:
            return False
        self._drop(claim.key, hold)
        return True

    async def _again(self, claim: Claim, hold: Any) -> Grant | None:
        with _translated():
            said = await hold.session.ask(self._statements.alive, [], self._timeout, only=hold.wire)
        if said is None:
            return await self._try(claim)
        return Grant(claim, hold.token, claim.ttl, said[1])

    def _terms(self, claim: Claim, lock: bytes, waits: bytes) -> list[bytes | None]:
        info = claim.info.encode("utf-8", "surrogatepass")
        key, name = claim.key.encode(), hidden(claim.key, claim.name)
        return [lock, key, name, claim.owner.encode(), micros(claim.ttl), info, waits]

    def _session(self, ttl: float) -> Session:
        with self._guard:
            session = self._sessions.get(ttl)
            if session is None:
                session = self._sessions[ttl] = Session(self._link, self._statements, self.runtime, ttl)
            return session

    def _drop(self, key: str, hold: _Hold) -> None:
        with self._guard:
            if self._holds.get(key) is hold:
                del self._holds[key]

    @property
    def _timeout(self) -> float:
        return self._server.timeout

    # Waiting, in the server's queue.

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait. Raises StoreError where the server could not be asked for as long as a waiter may be silent."""
        until = None if timeout is None else time.monotonic() + timeout
        place: _Place = ticket.state
        while ticket.inbox.peek() is None:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            try:
                await self._wait_some(ticket, place, _SLICE if left is None else min(left, _SLICE))
            except Late:
                place.since = self.runtime.clock.now()
            except (*Trouble, StoreUnavailable) as trouble:
                self._quit(place)
                if self.runtime.clock.now() - place.since > ticket.claim.waiter_ttl:
                    raise trouble if isinstance(trouble, StoreError) else translate(trouble) from trouble
                await ticket.inbox.wait(_NAP)

    async def _wait_some(self, ticket: Ticket, place: _Place, seconds: float) -> None:
        claim = ticket.claim
        if place.session is None and not self._seat(place, claim.ttl):
            await ticket.inbox.wait(min(seconds, _NAP * random.uniform(1, 2)))
            if ticket.inbox.peek() is None:
                grant = await self._try(claim)
                place.since = self.runtime.clock.now()
                if grant is not None:
                    await self._deliver(ticket, place, grant)
            return
        session = place.session
        assert session is not None
        if not place.asked:
            lock = self._statements.lock(claim.key)
            if session.wire is None or session.wire.stale():
                session.end()
                await session.unlimited(self._timeout)
            await session.begin(self._statements.take, self._terms(claim, lock, b"t"), self._timeout)
            place.asked = True
        result = await session.answered(time.monotonic() + seconds)
        token = numbers(result.get_value(0, 0))[0]
        # When the server began to count is not known, only that it was before this.
        try:
            said = await session.ask(self._statements.alive, [], self._timeout, only=session.wire)
        except Late as late:
            raise StoreUnavailable(f"PostgreSQL: {late}") from late
        if said is None:
            raise StoreUnavailable("PostgreSQL: the session that waited has ended.")
        with self._guard:
            self._holds[claim.key] = _Hold(claim.owner, session, said[2], token)
        await self._deliver(ticket, place, Grant(claim, token, claim.ttl, said[1]))

    async def _deliver(self, ticket: Ticket, place: _Place, grant: Grant) -> None:
        ticket.inbox.deliver(grant)
        if ticket.inbox.peek() is grant:
            place.delivered = True
        else:  # closed meanwhile: whoever waited will not look at it
            await self.release(grant)

    def _seat(self, place: _Place, ttl: float) -> bool:
        with self._guard:
            spares = self._spares.get(ttl)
            if spares:
                place.session = spares.pop()
            elif len(self._waiting) < WAITING:
                place.session = Session(self._link, self._statements, self.runtime, ttl)
            else:
                return False
            self._waiting.add(place.session)
            return True

    def _quit(self, place: _Place) -> None:
        session, place.session, place.asked = place.session, None, False
        if session is not None:
            with self._guard:
                self._waiting.discard(session)
            session.end()

    def leave(self, ticket: Ticket) -> None:
        """See Store.leave. A session that still waits is ended; the server sees it within a second."""
        place: _Place = ticket.state
        if place.delivered:
            with self._guard:
                self._waiting.discard(place.session)  # type: ignore[arg-type]
        else:
            self._quit(place)

    # Holding.

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat: one word on each session that has some of these."""
        until = time.monotonic() + within
        now = self.runtime.clock.now()
        said: dict[Any, Word] = {}
        words: list[Word] = []
        for grant in grants:
            hold = self._mine(grant)
            if hold is None:
                words.append(Lost())
                continue
            if hold.wire not in said:
                said[hold.wire] = await self._prove(hold, max(0.001, until - time.monotonic()))
            word = said[hold.wire]
            if isinstance(word, Lost):
                self._drop(grant.claim.key, hold)
            words.append(Held(grant.claim.ttl, word.since) if isinstance(word, Held) else word)
        if time.monotonic() - self._swept_at > _SWEEP_EVERY:
            self._swept_at = time.monotonic()
            with suppress(StoreError):
                await self._ask(self._statements.sweep, [], max(0.001, until - time.monotonic()))
        return [*words, *([Waiting(now)] * len(tickets))]

    async def _prove(self, hold: _Hold, within: float) -> Word:
        try:
            said = await hold.session.ask(self._statements.alive, [], within, only=hold.wire)
        except (*Trouble, StoreUnavailable) as trouble:
            if hold.ended:
                return Lost()
            error = trouble if isinstance(trouble, StoreUnavailable) else translate(trouble)
            return Unknown(error if isinstance(error, StoreUnavailable) else StoreUnavailable(str(error)))
        return Lost() if said is None else Held(0.0, said[1])

    def _mine(self, grant: Grant) -> _Hold | None:
        hold = self._holds.get(grant.claim.key)
        if hold is None or hold.owner != grant.claim.owner or hold.token != grant.token or hold.wire is None:
            return None
        return hold

    async def release(self, grant: Grant) -> bool:
        """See Store.release. False where the session has ended, or another client has this grant."""
        hold = self._mine(grant)
        return hold is not None and await self._give(grant.claim.key, hold)

    async def _give(self, key: str, hold: _Hold) -> bool:
        again, hold.giving = hold.giving, True
        params = [self._statements.lock(key), key.encode(), number(hold.token)]
        try:
            with _translated():
                said = await hold.session.ask(self._statements.give, params, self._timeout, only=hold.wire)
        except StoreUnavailable:
            if not hold.ended:
                raise
            # The lock is gone with its session; the row tells whether we gave it back before that.
            result, _, _ = await self._ask(self._statements.given, params[1:])
            self._drop(key, hold)
            return bool(result.ntuples)
        self._drop(key, hold)
        if said is None:
            return False
        self._spare(hold.session)
        return again or said[0].get_value(0, 0) == b"t"

    def _spare(self, session: Session) -> None:
        with self._guard:
            if self._sessions.get(session.ttl) is session or self._closed:
                return
            self._waiting.discard(session)
            spares = self._spares.setdefault(session.ttl, [])
            if len(spares) < WAITING:
                spares.append(session)
                return
        session.end()

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """See Store.abandon: what this client has of it. Requests of one session are served in order."""
        if tombstone:
            self._bury(claim.owner)
        hold = self._holds.get(claim.key)
        if hold is not None and hold.owner == claim.owner and hold.wire is not None:
            await self._give(claim.key, hold)
            return
        # An unanswered request may have got it: whoever has the turn next gives it back first.
        session = self._sessions.get(claim.ttl)
        if session is not None and session.wire is not None:
            with _translated():
                await session.ask(self._statements.alive, [], self._timeout, only=session.wire)

    def _bury(self, owner: str) -> None:
        now = time.monotonic()
        with self._guard:
            self._tombs = {dead: until for dead, until in self._tombs.items() if until > now}
            self._tombs[owner] = now + _TOMBSTONE

    def _buried(self, owner: str) -> bool:
        return self._tombs.get(owner, 0.0) > time.monotonic()

    # Life.

    def _all(self) -> list[Session]:
        with self._guard:
            held = [hold.session for hold in self._holds.values()]
            spares = [session for some in self._spares.values() for session in some]
            return [*self._sessions.values(), *spares, *self._waiting, *held]

    async def close(self) -> None:
        """See Store.close. What is held still ends with its session."""
        self._closed = True
        for session in self._all():
            session.end()
        await self.runtime.settle(self._link.close())

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever([session.wire for session in self._all_unguarded()])
        self._link.after_fork()
        self._fresh()

    def _all_unguarded(self) -> list[Session]:
        self._guard = threading.Lock()  # the parent's may be taken, by a thread that is not here
        return self._all()


class _translated:  # noqa: N801 - reads as a word
    """Trouble becomes a StoreError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Trouble):
            raise translate(error) from error
