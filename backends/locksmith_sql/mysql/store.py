"""mysql:// and mariadb://: leases in tables of a MariaDB or MySQL server. See docs/stores/mysql.md for the promises."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, Final, Self

from locksmith import names
from locksmith.errors import SettingsConflict, StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith.store import Claim, Gone, Grant, Guarantee, Held, Inbox, Lost, Ticket, Unknown, Waiting, Word
from locksmith_sql.mysql import url as urls
from locksmith_sql.mysql.cells import Cells, original
from locksmith_sql.mysql.desk import Desk
from locksmith_sql.mysql.link import Answer, Link
from locksmith_sql.mysql.paces import Paces
from locksmith_sql.mysql.people import People
from locksmith_sql.mysql.waiters import Bells, Hub

# Names in one transaction of a beat: the time for which others wait for one of them stays below some milliseconds.
_BATCH: Final = 100
# How often a client offers to sweep; all of them together do it every ten seconds at most.
_SWEEP_EVERY: Final = 30.0
_MANY: Final = 1000
_LONGEST: Final = 1 << 61


class MySQLStore(Cells, Paces, People):
    """Leases by the server's clock. Assumes one primary; tested with MariaDB. See docs/stores/mysql.md."""

    guarantees: ClassVar[Guarantee] = (
        Guarantee.FENCED
        | Guarantee.FIFO
        | Guarantee.CLOCK
        | Guarantee.EXACT_TTL
        | Guarantee.LOCK_DELAY
        | Guarantee.DURABLE
        | Guarantee.SHARED
        | Guarantee.CELLS
    )

    def __init__(self, server: urls.Server, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._link = Link(server, runtime)
        self._desk = Desk(self._link, namespace)
        self._hub = Hub(self._desk, runtime)
        self._bells = Bells(self._link)
        self._swept_at = runtime.clock.now()
        # Owners whose news are still on the server: confirmed by a statement that does not touch them.
        self._told: set[str] = set()
        # Names with a line when we saw them last: asking for a place in it at once saves a request.
        self._crowded = _Few()
        # Names that have a row: taking one of these is an update, which costs the server less than what may insert.
        self._known = _Few()

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        return cls(urls.from_url(url, asynchronous=runtime.is_async), runtime, namespace)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """A store over an SQLAlchemy Engine, or AsyncEngine for asyncio. Its connections are opened by the engine."""
        return cls(urls.from_client(client, asynchronous=runtime.is_async), runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return self._link.server.address

    def ddl(self) -> list[str]:
        """The statements that create the tables and procedures of this namespace."""
        return list(self._desk.ddl)

    def script(self) -> str:
        """See Store.script: the client program would end a procedure at its first semicolon."""
        statements = "".join(f"{text.strip()}$$\n\n" for text in self.ddl())
        return f"DELIMITER $$\n\n{statements}DELIMITER ;\n"

    async def create(self) -> None:
        """Create what is missing of the tables and procedures. Raises StoreAuthError, StoreError."""
        await self._desk.create()

    # Claims.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire."""
        ttl, delay = _micros(claim.ttl), _micros(claim.lock_delay)
        name, info = original(claim.key, claim.name), plain(claim.info)
        if claim.limit == 1:
            if queue and claim.key in self._crowded:
                values: tuple[object, ...] = (claim.key, claim.owner, self._link.client, _micros(claim.waiter_ttl))
                answer = await self._desk.ask(self._desk.sql.queue, (*values, delay, info))
                number, micros = answer.reply.rows[0]
                if number:
                    return self._in_line(claim, number, micros, answer)
            else:
                answer = await self._take(claim, (ttl, ttl, delay, info), name)
                if answer.reply.last:
                    self._known.add(claim.key)
                    return Grant(claim, answer.reply.last, claim.ttl, answer.since)
        answer = await self._one("A", claim, ttl=ttl, name=name, info=info, flag=queue, bell=queue)
        code, number, micros = answer.reply.rows[0]
        if code == 1:
            self._crowded.discard(claim.key)
            return Grant(claim, number, claim.ttl, answer.since)
        if code == 3:
            raise _conflict(claim, number)
        return self._in_line(claim, number, micros, answer) if code == 2 else None

    async def _take(self, claim: Claim, values: tuple[object, ...], name: str | None) -> Answer:
        if claim.key in self._known:
            return await self._desk.ask(self._desk.sql.retake, (claim.owner, *values, claim.key))
        return await self._desk.ask(self._desk.sql.take, (claim.key, name, claim.owner, *values))

    def _in_line(self, claim: Claim, number: int, micros: int, answer: Answer) -> Ticket:
        self._bells.hang(claim.owner, answer.wire)
        self._crowded.add(claim.key)
        inbox = Inbox(self.runtime.event())
        return self._hub.expect(Ticket(claim, number, answer.since, inbox, micros / 1e6 if micros >= 0 else None))

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        """See Store.takes_together."""
        return True

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        """See Store.acquire_all: one call of a procedure, which is one transaction."""
        first = claims[0]
        # In the order of the keys, so that two clients never wait for each other; beats go in the same order.
        packed = "".join(f"{claim.key} {claim.owner} {original(claim.key, claim.name) or ''};" for claim in claims)
        terms = _micros(first.ttl), _micros(first.waiter_ttl), _micros(first.lock_delay), plain(first.info)
        answer = await self._desk.ask(self._desk.sql.take_all, (self._link.client, packed, *terms))
        code, said = answer.reply.rows[0]
        if code == 0:
            return None
        numbers = [int(number) for number in said.split()]
        if code == 3:
            limit, place = numbers
            raise _conflict(claims[place - 1], limit)
        return [Grant(claim, token, claim.ttl, answer.since) for claim, token in zip(claims, numbers, strict=True)]

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait."""
        await self._hub.wait(ticket, timeout)

    def leave(self, ticket: Ticket) -> None:
        """See Store.leave."""
        self._hub.forget(ticket.claim.owner)

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat: a hundred names per request, each request one transaction."""
        within = min(within, self._link.server.timeout)
        until = self.runtime.clock.now() + within
        if len(grants) == 1 and not tickets and (held := await self._renew(grants[0], within)) is not None:
            return [held]
        items: list[Grant | Ticket] = [*grants, *tickets]
        # In the order of the keys, so that two clients never wait for each other.
        order = sorted(range(len(items)), key=lambda at: items[at].claim.key)
        words: list[Word] = [Lost()] * len(items)
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            try:
                found = await self._many([items[at] for at in batch], until - self.runtime.clock.now())
            except StoreUnavailable as error:
                if start == 0:
                    raise
                for at in order[start:]:
                    words[at] = Unknown(error)
                break
            for at, word in zip(batch, found, strict=True):
                words[at] = word
        await self._sweep(until)
        return words

    async def _renew(self, grant: Grant, within: float) -> Held | None:
        """Renew one grant of a name with limit 1 in one statement. None: it takes thought."""
        claim = grant.claim
        if claim.limit != 1:
            return None
        ttl = _micros(claim.ttl)
        values = (ttl, ttl, claim.key, claim.owner, grant.token)
        answer = await self._desk.ask(self._desk.sql.renew, values, within=within)
        if answer.reply.found != 1:
            return None
        if not grant.confirmed:
            self._told.add(claim.owner)
        return Held(claim.ttl, answer.since)

    async def _many(self, items: Sequence[Grant | Ticket], within: float) -> list[Word]:
        packed = "".join(_packed(item, item.claim.owner in self._told) for item in items)
        answer = await self._desk.ask(self._desk.sql.many, (self._link.client, packed), within=max(within, 0.001))
        said = str(answer.reply.rows[0][0]).split(";")
        words = [_word(item, word, answer.since) for item, word in zip(items, said, strict=False)]
        for item, word in zip(items, words, strict=False):
            if isinstance(item, Grant):
                self._told.discard(item.claim.owner)
            if isinstance(word, Lost):
                self._bells.drop(item.claim.owner)
        return words

    async def release(self, grant: Grant) -> bool:
        """See Store.release. "Not known" by a second request means that the first, unanswered one released it."""
        claim = grant.claim
        told = not grant.confirmed or claim.owner in self._told
        bell = self._bells.where(claim.owner)
        again = False
        if claim.limit == 1:
            if told or bell is not None:
                values = (claim.key, claim.owner, self._link.client, grant.token, int(told))
                answer = await self._desk.ask(self._desk.sql.pass_on, values, by=bell)
                done = bool(answer.reply.rows[0][0])
                if done:
                    await self._bells.rung(claim.owner, answer.wire)
            else:
                answer = await self._desk.ask(self._desk.sql.give, (claim.key, claim.owner, grant.token))
                done = answer.reply.found == 1
            if done:
                self._told.discard(claim.owner)
                return True
            again = answer.again
        answer = await self._one("R", claim, number=grant.token, flag=told, bell=bell is not None)
        self._told.discard(claim.owner)
        return bool(answer.reply.rows[0][0]) or again or answer.again

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """See Store.abandon."""
        self._hub.forget(claim.owner)
        await self._one("X", claim, name=original(claim.key, claim.name), flag=tombstone, bell=True)
        self._told.discard(claim.owner)

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict."""
        values = ("E", names.encode(name), None, "", "", token, 0, 0, 0, 0, 0, "", 0, 0)
        answer = await self._desk.ask(self._desk.sql.one, values)
        return bool(answer.reply.rows[0][0]) or answer.again

    async def _one(
        self,
        verb: str,
        claim: Claim,
        *,
        number: int = 0,
        ttl: int = 0,
        name: str | None = None,
        info: str = "",
        flag: bool = False,
        bell: bool = False,
    ) -> Answer:
        values = (
            verb, claim.key, name, claim.owner, self._link.client, number, claim.permits, claim.limit, ttl,
            _micros(claim.waiter_ttl), _micros(claim.lock_delay), info, int(flag), int(bell),
        )  # fmt: skip
        by = self._bells.where(claim.owner)
        answer = await self._desk.ask(self._desk.sql.one, values, by=by)
        if by is not None and verb != "A":
            await self._bells.rung(claim.owner, answer.wire)
        return answer

    async def _sweep(self, until: float) -> None:
        now = self.runtime.clock.now()
        if now - self._swept_at < _SWEEP_EVERY:
            return
        self._swept_at = now
        # The beat's answer stands; whatever is wrong with the store the next request says.
        with suppress(StoreError):
            await self._desk.ask(self._desk.sql.sweep, within=max(until - now, 0.001))

    # Life.

    async def close(self) -> None:
        """See Store.close."""
        await self._hub.close()
        await self._link.close()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        self._link.fresh()
        self._hub.fresh()
        self._bells.fresh()


class _Few(set[str]):
    """Some names, forgotten when they become too many."""

    def add(self, name: str) -> None:
        """Remember this one."""
        if len(self) >= _MANY:
            self.clear()
        super().add(name)


def plain(info: str) -> str:
    """Text that the server can store: lone surrogates are no UTF-8."""
    return info if info.isascii() else info.encode("utf-8", "replace").decode("utf-8")


def _conflict(claim: Claim, limit: int) -> SettingsConflict:
    return SettingsConflict(f"{claim.name!r} is in use with limit {limit}, not {claim.limit}: agree on one, or wait")


def _micros(seconds: float) -> int:
    return min(int(seconds * 1e6), _LONGEST)


def _packed(item: Grant | Ticket, told: bool) -> str:
    claim = item.claim
    if isinstance(item, Grant):
        return f"B {claim.key} {claim.owner} {item.token} {_micros(claim.ttl)} {int(told or not item.confirmed)};"
    return f"W {claim.key} {claim.owner} {item.number} {_micros(claim.waiter_ttl)} 0;"


def _word(item: Grant | Ticket, said: str, since: float) -> Word:
    code, number, micros = (int(part) for part in said.split(" "))
    if isinstance(item, Grant):
        return Held(item.claim.ttl, since) if code else Lost()
    if code == 0:
        return Gone()
    if code == 1:
        return Grant(item.claim, number, item.claim.waiter_ttl, item.word_at, confirmed=False)
    return Waiting(since, micros / 1e6 if micros >= 0 else None)
