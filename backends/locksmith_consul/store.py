"""ConsulStore: claims as keys of a Consul session. See docs/stores/consul.md for the promises and their assumptions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Self, TypeVar

from locksmith import nodes
from locksmith.errors import SettingsConflict, StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith.store import Claim, Gone, Grant, Guarantee, Held, Inbox, Lost, Ticket, Unknown, Waiting, Word
from locksmith_consul import url as urls
from locksmith_consul.base import Entry, entries
from locksmith_consul.board import Board
from locksmith_consul.cells import Cells
from locksmith_consul.claims import nodes_of, session_of, written
from locksmith_consul.keys import MOST_OPS, erasing, op
from locksmith_consul.people import People
from locksmith_consul.sessions import Session
from locksmith_consul.together import ENDED, TRIES, Life, Together
from locksmith_consul.url import Server

T = TypeVar("T")

TOMBSTONE: Final = 60.0
"""Seconds an abandoned owner is refused, at least: longer than a stalled request lives."""


class ConsulStore(Together, Cells, People):
    """Claims in transactions: one to take, one to give back. Sessions end by the servers' clock alone."""

    guarantees = (
        Guarantee.FENCED
        | Guarantee.FIFO
        | Guarantee.PUSH
        | Guarantee.DURABLE
        | Guarantee.SURVIVES_FAILOVER
        | Guarantee.SHARED
        | Guarantee.CELLS
    )
    by_session = True

    def __init__(self, server: Server, runtime: Runtime, namespace: str) -> None:
        super().__init__(server, runtime, namespace)
        self._board = Board(self._keys, server.query, self._granted)
        self._grave: Session | None = None
        if runtime.is_async:
            from locksmith_consul.hub_async import AsyncHub

            self._hub: Any = AsyncHub(self._link, self._board)
        else:
            from locksmith_consul.hub import Hub

            self._hub = Hub(self._link, self._board, runtime)

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        return cls(urls.from_url(url), runtime, namespace)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_client. Connections of our own are made with the settings of the client."""
        return cls(urls.from_client(client), runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return self._server.address

    # Claims.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire."""
        place = self._keys.claim(claim)
        for _ in range(TRIES):
            session = await self._current(claim.ttl)
            value = written(claim, session.ttl, time.time())
            done, failed, _, again = await self._transact(
                (
                    op("check-not-exists", self._keys.tombstone(claim)),
                    op("check-not-exists", place),
                    op("lock", place, value, session=session.id),
                    op("get-tree", self._keys.line(claim.key)),
                )
            )
            if done is not None:
                return await self._placed(claim, done[1:], session, queue=queue)
            if 0 in failed:
                return None
            if 1 in failed:
                found = await self._tree(self._keys.line(claim.key))
                known = await self._alive(claim, found)
                if known is not None:
                    return await self._placed(claim, found, known, queue=queue or not again)
            else:
                self._refuse_other(failed, ENDED)
                self._bury(session)
        raise StoreUnavailable("Consul: sessions end as soon as they are made; the agent's log may say why.")

    async def _placed(
        self, claim: Claim, found: list[Entry], session: Session, *, queue: bool
    ) -> Grant | Ticket | None:
        """What a claim has come to, whose key is among these."""
        life = Life(session.id, claim.ttl)
        if len(found) == 1 and claim.permits <= claim.limit:
            return Grant(claim, found[0]["CreateIndex"], session.ttl, session.since, state=life)
        line = nodes_of(found)
        at, token = next((at, node.token) for at, node in enumerate(line) if node.owner == claim.owner)
        try:
            # The first alone: one behind it that has another limit is about to leave, as this one would be.
            nodes.check_limit(claim, line[:1])
        except SettingsConflict:
            await self._erase(self._keys.claim(claim), token)
            raise
        if at < nodes.granted(line):
            return Grant(claim, token, session.ttl, session.since, state=life)
        if not queue:
            await self._erase(self._keys.claim(claim), token)
            return None
        ticket = Ticket(claim, token, session.since, Inbox(self.runtime.event()), state=life)
        self._hub.join(ticket, line)
        return ticket

    async def _erase(self, place: str, token: int) -> bool:
        """Delete the key of a claim, unless it is another one's by now; see nodes_of."""
        outcome = await self._transact(erasing(place, token))
        return outcome.done is not None or outcome.again

    def leave(self, ticket: Ticket) -> None:
        """See Store.leave."""
        self._hub.leave(ticket)

    def _granted(self, ticket: Ticket, session_id: str) -> Grant | Gone:
        session = self._known.get(session_id)
        if session is None:
            return Gone()  # queueing again finds its key, and asks the session
        return Grant(ticket.claim, ticket.number, session.ttl, session.since, state=ticket.state)

    async def release(self, grant: Grant) -> bool:
        """See Store.release. "Not known" by a second request means that the first, unanswered one released it."""
        return await self._erase(self._keys.claim(grant.claim), grant.token)

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """See Store.abandon. A tombstone is a key of a session that nobody renews, and that outlives this client."""
        self._board.forget(claim.key, claim.owner)
        gone = op("delete", self._keys.claim(claim))
        for _ in range(TRIES if tombstone else 0):
            session = await self._undertaker()
            outcome = await self._transact((op("lock", self._keys.tombstone(claim), session=session.id), gone))
            if outcome.done is not None:
                return
            if ENDED not in outcome.failed.get(0, ""):
                break  # it has one already
            self._grave = None
        await self._transact((gone,))

    async def _undertaker(self) -> Session:
        grave = self._grave
        if grave is None or self.runtime.clock.now() - grave.since > TOMBSTONE:
            self._grave = grave = await self._make(self._span(2 * TOMBSTONE))
        return grave

    # The keeper's word.

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat: each session is renewed, and then each key is looked for."""
        until = self.runtime.clock.now() + within
        asked: dict[str, Session | Unknown | None] = {}
        items: list[Grant | Ticket] = [*grants, *tickets]
        words = [await self._pulse(item, asked, until) for item in items]
        kept = [(at, grant) for at, grant in enumerate(grants) if not _let_go(grant)]
        held = [(at, grant) for at, grant in kept if isinstance(words[at], Held)]
        for some in _batches(held, MOST_OPS):
            await self._prove(some, words, until)
        behind = enumerate(tickets, len(grants))
        waiting = [(at, ticket) for at, ticket in behind if isinstance(words[at], Waiting)]
        for many in _batches(waiting, MOST_OPS):
            await self._look(many, words, until)
        return words

    async def _pulse(self, item: Grant | Ticket, asked: dict[str, Session | Unknown | None], until: float) -> Word:
        """Renew what this lives by. Whether its own key is still there is another question."""
        try:
            session = await self._renewed(item, asked, until)
        except StoreError as error:
            return Unknown(_unavailable(error))
        if isinstance(session, Unknown):
            return session
        if isinstance(item, Ticket):
            return Gone() if session is None else Waiting(session.since)
        return Lost() if session is None else Held(session.ttl, session.since)

    async def _renewed(
        self, item: Grant | Ticket, asked: dict[str, Session | Unknown | None], until: float
    ) -> Session | Unknown | None:
        claim = item.claim
        session = self._known.get(item.state.session) if item.state else None
        if session is None:
            line = self._reading(self._keys.line(claim.key), "recurse")
            session = self._session(claim, entries(await self._ask("GET", line, b"", self._left(until))))
            if session is None:
                return None
        if isinstance(item, Grant) and _let_go(item):
            return await self._move(item, session)
        if session.id not in asked:
            asked[session.id] = Unknown(_unavailable(StoreUnavailable("this was not asked in time")))
            try:
                asked[session.id] = session if await self._renew(session, self._left(until)) else None
            except StoreError as error:
                asked[session.id] = Unknown(_unavailable(error))
        return asked[session.id]

    async def _move(self, grant: Grant, old: Session) -> Session | None:
        """Let a grant end by itself: its key gets a session of its own, of the new ttl, that nobody will renew.

        Its ModifyIndex changes by that. Whoever lets a grant end has no more words to say about it.
        """
        place = self._keys.claim(grant.claim)
        found = [entry for entry in await self._tree(place) if entry["ModifyIndex"] == grant.token]
        if not found:
            return None
        new = await self._make(self._span(grant.claim.ttl))
        value = found[0]["Value"]
        outcome = await self._transact(
            (
                op("check-index", place, index=grant.token),
                op("unlock", place, value, session=old.id),
                op("lock", place, value, session=new.id),
            )
        )
        return None if outcome.done is None else new

    async def _prove(self, some: list[tuple[int, Grant]], words: list[Word], until: float) -> None:
        """Look for the keys of grants; a key is written once, so the index of what was granted tells it apart."""
        ops = [op("check-index", self._keys.claim(grant.claim), index=grant.token) for _, grant in some]
        try:
            outcome = await self._transact(ops, seconds=self._left(until))
        except StoreError as error:
            for at, _ in some:
                words[at] = Unknown(_unavailable(error))
        else:
            for failed in outcome.failed:
                words[some[failed][0]] = Lost()

    async def _look(self, some: list[tuple[int, Ticket]], words: list[Word], until: float) -> None:
        """Look how the lines stand that these tickets are in."""
        lines = {self._keys.line(ticket.claim.key): list[Entry]() for _, ticket in some}
        try:
            outcome = await self._transact([op("get-tree", line) for line in lines], seconds=self._left(until))
            if outcome.done is None:
                raise StoreUnavailable(f"Consul: {', '.join(outcome.failed.values())}; try again.")
        except StoreError as error:
            for at, _ in some:
                words[at] = Unknown(_unavailable(error))
            return
        for entry in outcome.done:
            lines[entry["Key"].rpartition("/")[0] + "/"].append(entry)
        for at, ticket in some:
            words[at] = self._standing(ticket, lines[self._keys.line(ticket.claim.key)]) or words[at]

    def _standing(self, ticket: Ticket, found: list[Entry]) -> Grant | Gone | None:
        line = nodes_of(found)
        places = [at for at, node in enumerate(line) if (node.owner, node.order) == (ticket.claim.owner, ticket.number)]
        if not places:
            return Gone()
        if places[0] < nodes.granted(line):
            return self._granted(ticket, session_of(found, ticket.claim.owner))
        return None

    def _left(self, until: float) -> float:
        return max(0.001, until - self.runtime.clock.now())

    # Life.

    async def close(self) -> None:
        """See Store.close."""
        await self._hub.close()
        await self._end_sessions()
        await self._link.end()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        self._link.after_fork()
        self._hub.after_fork()
        self._forget_sessions()
        self._grave = None


def _let_go(grant: Grant) -> bool:
    """Whether this beat is to let it end by itself, so many seconds from now."""
    return grant.state is not None and grant.claim.ttl != grant.state.ttl


def _batches(all_: list[T], size: int) -> Iterator[list[T]]:
    return (all_[at : at + size] for at in range(0, len(all_), size))


def _unavailable(error: StoreError) -> StoreUnavailable:
    """A beat's answer about one grant or ticket: whatever went wrong, it could not be asked about."""
    if isinstance(error, StoreUnavailable):
        return error
    told = StoreUnavailable(str(error))
    told.__cause__ = error
    return told
