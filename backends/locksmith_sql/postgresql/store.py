"""postgresql://: lease rows on the server's time. docs/stores/postgresql.md says what it promises, and when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Self

from locksmith.errors import InvalidTTL, SettingsConflict, StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith.store import (
    Claim,
    Gone,
    Grant,
    Guarantee,
    Held,
    Inbox,
    Lost,
    Ticket,
    Unknown,
    Waiting,
    Word,
)
from locksmith_sql.postgresql import url as urls
from locksmith_sql.postgresql.base import array, micros, number, numbers, raw_array
from locksmith_sql.postgresql.cells import Cells, hidden
from locksmith_sql.postgresql.paces import Paces
from locksmith_sql.postgresql.people import People
from locksmith_sql.postgresql.statements import MICROS, Statements
from locksmith_sql.postgresql.url import Server

CHUNK: Final = 250
"""Names in one transaction of a beat: the time that others wait for it stays below some milliseconds."""
TOMBSTONE: Final = 60 * MICROS
"""How long an abandoned owner is refused: longer than a stalled request lives."""
MAX_TTL: Final = 3_000_000_000.0
_SWEEP_EVERY: Final = 15.0


class PostgreSQLStore(Cells, Paces, People):
    """Claims in rows, judged by functions on the server: each verb is one statement. Time is the server's."""

    guarantees = (
        Guarantee.FENCED
        | Guarantee.FIFO
        | Guarantee.PUSH
        | Guarantee.CLOCK
        | Guarantee.EXACT_TTL
        | Guarantee.LOCK_DELAY
        | Guarantee.DURABLE
        | Guarantee.SHARED
        | Guarantee.CELLS
    )

    def __init__(self, server: Server, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._server = server
        self._statements = Statements(namespace)
        self._swept_at = time.monotonic()
        now = runtime.clock.now
        # The two colours of connection are loaded one at a time: a blocking program does not import asyncio for this.
        if runtime.is_async:
            from locksmith_sql.postgresql.hub_async import AsyncHub
            from locksmith_sql.postgresql.link_async import AsyncLink

            self._link: Any = AsyncLink(server, self._statements, now, runtime)
            self._hub: Any = AsyncHub(self._link, self._recheck, self._look)
        else:
            from locksmith_sql.postgresql.hub import Hub
            from locksmith_sql.postgresql.link import Link

            self._link = Link(server, self._statements, now)
            self._hub = Hub(self._link, self._recheck, self._look)

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Any:
        """See Store.from_url; with `mode=advisory` an AdvisoryStore."""
        server = urls.from_url(url)
        if server.mode == "advisory":
            from locksmith_sql.postgresql.advisory.store import AdvisoryStore

            return AdvisoryStore(server, runtime, namespace)
        return cls(server, runtime, namespace)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """A store over an Engine (or under asyncio an AsyncEngine) of SQLAlchemy, or a psycopg connection.

        An engine opens connections for us, which it does not get back; of a connection only its settings are used.
        """
        return cls(urls.from_client(client, asynchronous=runtime.is_async), runtime, namespace)

    @property
    def address(self) -> str:
        return self._server.address

    # Claims.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        hub = self._hub
        if not queue:
            return await self._acquire(claim, None)
        if not hub.ready:
            # Before the first place in line of this client: whoever gets the name at once needs no listening.
            reply = await self._acquire(claim, None)
            if reply is not None:
                return reply
            await self._start_hub()
        # Known before the request is sent: the push may be faster than the reply.
        hub.waiters.expect(claim.owner)
        try:
            reply = await self._acquire(claim, hub.channel.encode())
        except BaseException:
            hub.waiters.forget(claim.owner)
            raise
        if isinstance(reply, Ticket):
            hub.waiters.bind(reply)
        else:
            hub.waiters.forget(claim.owner)
        return reply

    async def _acquire(self, claim: Claim, channel: bytes | None) -> Grant | Ticket | None:
        name, key, owner, ttl, permits, limit, waiter_ttl, lock_delay, info = claim
        _check_ttl(claim)
        params = [
            key.encode(), hidden(key, name), owner.encode(), micros(ttl), number(permits), number(limit),
            micros(waiter_ttl), micros(lock_delay), info.encode("utf-8", "surrogatepass"), channel,
        ]  # fmt: skip
        result, since, _ = await self._ask(self._statements.acquire, params)
        answer = numbers(result.get_value(0, 0))
        if not answer:
            return None
        first = answer[0]
        if first > 0:
            return Grant(claim, first, ttl, since)
        if first < 0:
            raise _conflict(claim, answer[1])
        return Ticket(claim, answer[1], since, Inbox(self.runtime.event()), _moment(answer[2]))

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        return True

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        """See Store.acquire_all: one statement."""
        first = claims[0]
        _check_ttl(first)
        params = [
            array([claim.key.encode() for claim in claims]),
            raw_array([hidden(claim.key, claim.name) for claim in claims]),
            array([claim.owner.encode() for claim in claims]),
            micros(first.ttl), micros(first.waiter_ttl), micros(first.lock_delay),
            first.info.encode("utf-8", "surrogatepass"),
        ]  # fmt: skip
        result, since, _ = await self._ask(self._statements.acquire_all, params)
        tokens = numbers(result.get_value(0, 0))
        if not tokens:
            return None
        if tokens[0] == -1:
            raise _conflict(claims[tokens[2] - 1], tokens[1])
        return [Grant(claim, token, claim.ttl, since) for claim, token in zip(claims, tokens, strict=True)]

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        if ticket.inbox.peek() is None:
            await self._hub.wait(ticket, timeout)

    def leave(self, ticket: Ticket) -> None:
        self._hub.waiters.leave(ticket)

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat: one statement per 250 names."""
        items: list[Grant | Ticket] = [*grants, *tickets]
        until = time.monotonic() + within
        words: list[Word] = []
        for at in range(0, len(items), CHUNK):
            some = items[at : at + CHUNK]
            try:
                words.extend(await self._beat(some, max(0.001, until - time.monotonic())))
            except StoreUnavailable as error:
                if at == 0 and len(items) == len(some):
                    raise
                words.extend([Unknown(error)] * len(some))
        await self._sweep(until)
        return words

    async def _beat(self, items: list[Grant | Ticket], within: float) -> list[Word]:
        claims = [item.claim for item in items]
        held = [isinstance(item, Grant) for item in items]
        params = [
            array([claim.key.encode() for claim in claims]),
            array([claim.owner.encode() for claim in claims]),
            array([b"t" if grant else b"f" for grant in held]),
            array([number(item.token if isinstance(item, Grant) else item.number) for item in items]),
            array([micros(c.ttl if grant else c.waiter_ttl) for c, grant in zip(claims, held, strict=True)]),
        ]
        result, since, _ = await self._ask(self._statements.beat, params, within)
        words: list[Any] = [None] * len(items)
        for row in range(result.ntuples):
            place, answer, value = (int(result.get_value(row, column)) for column in range(3))
            words[place - 1] = _word(items[place - 1], answer, value, since)
        return words

    async def _recheck(self, tickets: list[Ticket]) -> None:
        for ticket, news in zip(tickets, await self.beat([], tickets, within=self._server.timeout), strict=True):
            if isinstance(news, Grant | Gone):
                ticket.inbox.deliver(news)

    async def _look(self, tickets: list[Ticket]) -> None:
        params = [array([t.claim.key.encode() for t in tickets]), array([t.claim.owner.encode() for t in tickets])]
        result, _, _ = await self._ask(self._statements.look, params)
        for row in range(result.ntuples):
            self._hub.waiters.found(result.get_value(row, 0).decode(), int(result.get_value(row, 1)))

    async def _tidy(self) -> None:
        await self._sweep(time.monotonic() + self._server.timeout)

    async def _sweep(self, until: float) -> None:
        now = time.monotonic()
        if now - self._swept_at < _SWEEP_EVERY or until - now < 1:
            return
        self._swept_at = now
        # The beat's answer stands; whatever is wrong with the store the next request says.
        with suppress(StoreError):
            await self._ask(self._statements.sweep, [], until - now)

    async def release(self, grant: Grant) -> bool:
        """See Store.release. "Not known" by a second request means that the first, unanswered one released it."""
        claim = grant.claim
        params = [claim.key.encode(), claim.owner.encode(), number(grant.token)]
        result, _, again = await self._ask(self._statements.release, params)
        return again or result.get_value(0, 0) == b"t"

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        self._hub.waiters.forget(claim.owner)
        params = [
            claim.key.encode(),
            hidden(claim.key, claim.name),
            claim.owner.encode(),
            number(TOMBSTONE if tombstone else 0),
        ]
        await self._ask(self._statements.abandon, params)

    # Life.

    async def close(self) -> None:
        await self._hub.close()
        await self.runtime.settle(self._link.close())

    def after_fork(self) -> None:
        self._link.after_fork()
        self._hub.after_fork()


def _check_ttl(claim: Claim) -> None:
    if claim.ttl > MAX_TTL or claim.lock_delay > MAX_TTL:
        longest = max(claim.ttl, claim.lock_delay)
        raise InvalidTTL(f"this store keeps at most {MAX_TTL:.0f} seconds, not {longest}")


def _conflict(claim: Claim, limit: int) -> SettingsConflict:
    return SettingsConflict(f"{claim.name!r} is in use with limit {limit}, not {claim.limit}: agree on one, or wait")


def _moment(value: int) -> float | None:
    return value / MICROS if value >= 0 else None


def _word(item: Grant | Ticket, answer: int, value: int, since: float) -> Word:
    if isinstance(item, Grant):
        return Held(item.claim.ttl, since) if answer else Lost()
    if answer == 0:
        return Gone()
    if answer == 1:
        return Waiting(since, _moment(value))
    return Grant(item.claim, value, item.claim.waiter_ttl, item.word_at, confirmed=False)
