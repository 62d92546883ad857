"""`postgresql://...?mode=advisory`: exclusive locks that live by sessions of the server. See docs/stores/postgresql.md.

One session for each ttl takes whatever is free, and has any number of locks. Whoever must wait does so in the server's
own queue, in a session for that name, which has the lock from then on.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

from locksmith.errors import ClientClosed, GuaranteeMissing, InvalidTTL, StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith.store import Claim, Grant, Guarantee, Held, Lost, Ticket, Unknown, Waiting, Word
from locksmith_sql.postgresql import url as urls
from locksmith_sql.postgresql.advisory.line import Line
from locksmith_sql.postgresql.advisory.session import Hold, Session
from locksmith_sql.postgresql.errors import Broken, Refused, Trouble, translate
from locksmith_sql.postgresql.url import Server
from locksmith_sql.postgresql.wire import Result

MAX_TTL: Final = 2_000_000.0
"""Seconds that the server's idle_session_timeout can say."""
_TOMBSTONE: Final = 60.0
_SWEEP_EVERY: Final = 60.0
_logger: Final = logging.getLogger("locksmith")


class AdvisoryStore(Line):
    """A claim is a session lock. It ends with its session: given back, broken off, or silent for a ttl."""

    guarantees = Guarantee.FENCED | Guarantee.PUSH | Guarantee.SHARED
    by_session = True
    by_connection = True
    heart_from_outside = False
    exclusive_only = True

    def __init__(self, server: Server, runtime: Runtime, namespace: str) -> None:
        super().__init__(server, runtime, namespace)
        self._swept_at = time.monotonic()

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        return cls(urls.from_url(url), runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return f"{self._server.address}?mode=advisory"

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
            if claim.owner in self._holds and (again := await self._again(claim)) is not None:
                return again
            if queue and self._is_crowded(claim.key):
                return await self._wait_briefly(claim)
            reply = await self._try(claim)
            if reply is None and queue and not self._buried(claim.owner):
                self._note_crowd(claim)
                return await self._queue(claim)
        except Trouble as trouble:
            raise translate(trouble) from trouble
        return reply

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
        return hold if hold is not None and hold.token == grant.token else None

    async def _linger(self, grant: Grant, hold: Hold, until: float) -> None:
        # A lock cannot move to another session, and ends with its process: nothing would keep the name closed.
        _logger.warning("%r is free at once: mode=advisory keeps no name closed after its holder", grant.claim.name)
        with suppress(*Trouble):
            await self._give(hold, until)

    async def _tidy(self, until: float) -> None:
        """Give back what an abandoned request got after all; delete rows that sessions have left behind."""
        for hold in list(self._holds.values()) if self._tombs else ():
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
            await session.ask(self._statements.give, [hold.lock, b"%d" % hold.token], until, hear, about=hold)
        except Refused:
            await session.settle(until)
        self._sessions.take_back(session)
        return bool(given) and given[0]

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
                    with suppress(StoreError, ClientClosed):
                        await self._ask(self._statements.end, [session.pid], max(0.001, until - time.monotonic()))
                await session.quit(self._until)
                self._drop(session)
                return
            await session.settle(until)
            if not hold.over:
                await self._give(hold, until)
        except Broken:
            self._drop(session)

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
