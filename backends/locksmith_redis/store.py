"""RedisStore: claims on a Redis server. See docs/stores/redis.md for what is promised and under which assumptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self, cast

from redis import exceptions as driver

from locksmith import names
from locksmith.errors import SettingsConflict, StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith.store import Claim, Gone, Grant, Guarantee, Held, Inbox, Lost, Store, Ticket, Unknown, Waiting, Word
from locksmith_redis import url as urls
from locksmith_redis.cells import Cells
from locksmith_redis.claims import CHUNK, beat, terms
from locksmith_redis.errors import translate
from locksmith_redis.link import Answer
from locksmith_redis.paces import Paces
from locksmith_redis.people import People
from locksmith_redis.scripts import ABANDON, ACQUIRE, RELEASE, Keys, acquiring, word
from locksmith_redis.server import Endpoint
from locksmith_redis.waiters import Waiters

NOWHERE: Final = b"$0\r\n\r\n"
"""What stands for a channel in the request of who would not wait."""
TOMBSTONE: Final = 60_000_000
"""Microseconds an abandoned owner is refused: longer than a stalled request lives."""


class RedisStore(Cells, Paces, People):
    """Claims in scripts: each verb is one request. Time is the server's, so its clock must not jump forward."""

    guarantees = (
        Guarantee.FENCED
        | Guarantee.FIFO
        | Guarantee.PUSH
        | Guarantee.CLOCK
        | Guarantee.EXACT_TTL
        | Guarantee.LOCK_DELAY
        | Guarantee.SHARED
        | Guarantee.CELLS
    )

    def __init__(self, server: Endpoint, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._server = server
        self._keys = Keys(names.encode(namespace) if namespace else "")
        now = runtime.clock.now
        # The two colours of connection are loaded one at a time: a blocking program does not import asyncio for this.
        if runtime.is_async:
            from locksmith_redis.hub_async import AsyncHub
            from locksmith_redis.link_async import AsyncLink

            self._link: Any = AsyncLink(server, now)
            self._hub: Any = AsyncHub(server, Waiters(self._keys), self._recheck)
        else:
            from locksmith_redis.hub import Hub
            from locksmith_redis.link import Link

            self._link = Link(server, now)
            self._hub = Hub(server, Waiters(self._keys), self._recheck)

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        return cls(urls.from_url(url, asynchronous=runtime.is_async), runtime, namespace)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_client. Connections of our own are made with the settings of the client's pool.

        One class is asked about all of redis-py's clients: others than those of one server are passed on.
        """
        if cls is RedisStore and (other := _store_of(client)) is not None:
            return cast(Self, other.from_client(client, runtime=runtime, namespace=namespace))
        return cls(urls.from_client(client, asynchronous=runtime.is_async), runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return self._server.address

    # Claims.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire."""
        hub = self._hub
        if not queue:
            return await self._acquire(claim, NOWHERE)
        if not hub.ready:
            # Before the first place in line of this client: whoever gets the name at once needs no subscription.
            reply = await self._acquire(claim, NOWHERE)
            if reply is not None:
                return reply
            await self._start(hub)
        return await self._queue(hub, claim)

    async def _queue(self, hub: Any, claim: Claim) -> Grant | Ticket | None:
        """Ask for a place in line, of which this hub hears."""
        # Known before the request is sent: the push may be faster than the reply.
        hub.waiters.expect(claim.owner)
        try:
            where = word(b"%d %b" % (claim.waiter_ttl * 1e6, hub.waiters.channel))
            reply = await self._acquire(claim, where)
        except BaseException:
            hub.waiters.forget(claim.owner)
            raise
        if isinstance(reply, Ticket):
            hub.waiters.bind(reply)
        else:
            hub.waiters.forget(claim.owner)
        return reply

    async def _acquire(self, claim: Claim, where: bytes) -> Grant | Ticket | None:
        hidden = claim.name if "~~" in claim.key else ""
        said = terms(claim.ttl, claim.permits, claim.limit, claim.lock_delay, claim.info, hidden)
        tail = b"%b$32\r\n%b\r\n%b%b" % (self._keys.counted(claim.key), claim.owner.encode(), said, where)
        reply, since, _ = await self._ask(ACQUIRE, tail)
        if reply.__class__ is int:
            return Grant(claim, reply, claim.ttl, since)
        if reply is None:
            return None
        number, value = reply
        if number == -1:
            raise _conflict(claim, value)
        if number == -2:
            return None
        head = value / 1e6 if value >= 0 else None
        return Ticket(claim, number, since, Inbox(self.runtime.event()), head)

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        """See Store.takes_together: one script, whatever the names."""
        return True

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        """See Store.acquire_all."""
        tail = word(b"%d" % (4 * len(claims))) + b"".join(self._keys.of_name(claim.key) for claim in claims)
        for claim in claims:
            hidden = claim.name if "~~" in claim.key else ""
            said = terms(claim.ttl, claim.permits, claim.limit, claim.lock_delay, claim.info, hidden)
            tail += word(claim.owner.encode()) + said
        reply, since, _ = await self._ask(acquiring(len(claims)), tail)
        if reply is None:
            return None
        verdict, *tokens = reply
        if verdict == -1:
            limit, place = tokens
            raise _conflict(claims[place - 1], limit)
        return [Grant(claim, token, claim.ttl, since) for claim, token in zip(claims, tokens, strict=True)]

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait."""
        if ticket.inbox.peek() is None:
            await self._hub.wait(ticket, timeout)

    def leave(self, ticket: Ticket) -> None:
        """See Store.leave."""
        self._hub.waiters.leave(ticket)

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat: one script per 200 names, all of them in one write."""
        items: list[Grant | Ticket] = [*grants, *tickets]
        if not items:
            return []
        chunks = [items[at : at + CHUNK] for at in range(0, len(items), CHUNK)]
        until = self.runtime.clock.now() + within
        answers = await self._ask_all([beat(self._keys, chunk) for chunk in chunks], within)
        again = [at for at, answer in enumerate(answers) if isinstance(answer, driver.NoScriptError)]
        if again:
            left = max(0.001, until - self.runtime.clock.now())
            payloads = [beat(self._keys, chunks[at], source=True) for at in again]
            for at, answer in zip(again, await self._ask_all(payloads, left), strict=True):
                answers[at] = answer
        words: list[Word] = []
        for chunk, answer in zip(chunks, answers, strict=True):
            words.extend(self._words(chunk, answer))
        return words

    def _word(self, item: Grant | Ticket, kind: int, value: Any, since: float) -> Word:
        if kind == -1:
            return Unknown(unavailable(driver.ResponseError(value.decode("utf-8", "replace"))))
        if isinstance(item, Grant):
            return Held(item.claim.ttl, since) if kind else Lost()
        if kind == 0:
            return Gone()
        if kind == 1:
            return Waiting(since, value / 1e6 if value >= 0 else None)
        return self._handed(item, value)

    def _handed(self, ticket: Ticket, token: int) -> Grant:
        waiters: Waiters = self._hub.waiters
        return waiters.handed(ticket, token)

    def _words(self, items: Sequence[Grant | Ticket], answer: Answer | Exception) -> list[Word]:
        if isinstance(answer, Exception):
            return [Unknown(unavailable(answer))] * len(items)
        reply, since, _ = answer
        return [self._word(item, reply[2 * at], reply[2 * at + 1], since) for at, item in enumerate(items)]

    async def _recheck(self, tickets: list[Ticket]) -> None:
        for ticket, news in zip(tickets, await self.beat([], tickets, within=self._server.timeout), strict=True):
            if isinstance(news, Grant | Gone):
                ticket.inbox.deliver(news)

    async def release(self, grant: Grant) -> bool:
        """See Store.release. "Not known" by a second request means that the first, unanswered one released it."""
        claim = grant.claim
        tail = b"%b$48\r\n%016d%b\r\n" % (self._keys.counted(claim.key), grant.token, claim.owner.encode())
        reply, _, again = await self._ask(RELEASE, tail)
        return again or reply == 1

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """See Store.abandon."""
        self._forget(claim.owner)
        until = word(b"%d" % (TOMBSTONE if tombstone else 0))
        await self._ask(ABANDON, self._keys.counted(claim.key) + word(claim.owner.encode()) + until)

    def _forget(self, owner: str) -> None:
        self._hub.waiters.forget(owner)

    # Life.

    async def close(self) -> None:
        """See Store.close."""
        await self._hub.close()
        await self.runtime.settle(self._link.close())

    def after_fork(self) -> None:
        """See Store.after_fork."""
        self._link.after_fork()
        self._hub.after_fork()


def _conflict(claim: Claim, limit: int) -> SettingsConflict:
    return SettingsConflict(f"{claim.name!r} is in use with limit {limit}, not {claim.limit}: agree on one, or wait")


def unavailable(error: Exception) -> StoreUnavailable:
    """A beat's answer about one grant or ticket: whatever went wrong, it could not be asked about."""
    told: StoreError = translate(error)
    if not isinstance(told, StoreUnavailable):
        told = StoreUnavailable(str(told))
    told.__cause__ = error
    return told


def _store_of(client: object) -> type[Store] | None:
    """The store for a client that stands for more than one server."""
    # Not at the top: they are subclasses of this one.
    if isinstance(client, list | tuple):
        from locksmith_redis.quorum import RedisQuorumStore

        return RedisQuorumStore
    if hasattr(client, "nodes_manager"):
        from locksmith_redis.cluster import RedisClusterStore

        return RedisClusterStore
    if hasattr(getattr(client, "connection_pool", None), "sentinel_manager"):
        from locksmith_redis.sentinel import RedisSentinelStore

        return RedisSentinelStore
    return None
