"""RedisQuorumStore: a lock that a majority of independent servers has granted. See docs/stores/redis-quorum.md.

The algorithm is Redlock (Sanfilippo, "Distributed Locks with Redis"), with the time that asking took taken off the
validity, and with one token agreed upon by a majority before the grant counts.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Self

from redis import exceptions as driver

from locksmith import names
from locksmith.errors import ConfigurationError, GuaranteeMissing, SettingsConflict, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith.store import Claim, Gone, Grant, Guarantee, Held, Inbox, Lost, Ticket, Unknown, Waiting, Word
from locksmith_redis import several
from locksmith_redis.claims import CHUNK, beat, terms
from locksmith_redis.errors import translate
from locksmith_redis.hints import Anyone, Hints
from locksmith_redis.link import Answer
from locksmith_redis.quorum_people import QuorumPeople
from locksmith_redis.scripts import ACQUIRE, ADOPT, QUORUM_RELEASE, Keys, word
from locksmith_redis.server import Server, shown
from locksmith_redis.store import NOWHERE, unavailable
from locksmith_redis.url import database, from_client
from locksmith_redis.votes import Voter, Votes, is_unknown

PORT: Final = 6379
TIMEOUT: Final = 1.0
"""Seconds that one round of requests may take, unless the URL says otherwise: what it takes is taken off the ttl."""
EXAMPLE: Final = "redis+quorum://host1:6379,host2:6379,host3:6379"

_NAPS: Final = (0.02, 0.05, 0.1, 0.25)
"""Seconds of sleep between two tries, at random up to twice as long; the last one repeats. A hint ends a nap."""
_JITTER: Final = 0.01
"""Seconds, at random, between a hint and the try that follows: those who try at once split the votes."""


class Undone(StoreUnavailable):
    """No majority will ever grant this claim any more, because it was undone: try again with a new one."""


class RedisQuorumStore(QuorumPeople):
    """Exclusive locks alone: no line, no cells. Who waits tries again at random moments, or when a holder says that it
    has given the name back.
    """

    guarantees = Guarantee.SHARED
    exclusive_only = True

    def __init__(self, servers: Sequence[Server], runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._keys = Keys(names.encode(namespace) if namespace else "")
        self._votes = Votes(servers, self._keys, runtime)
        self._numbers = itertools.count(1)
        self._hints = Hints(self._keys)
        tls = any("SSL" in server.connection_class.__name__ for server in servers)
        hosts = shown([(server.settings["host"], server.settings["port"]) for server in servers])
        self._address = f"{'rediss' if tls else 'redis'}+quorum://{hosts}/{servers[0].settings.get('db') or 0}"
        if runtime.is_async:
            from locksmith_redis.hub_async import AsyncHub

            self._hub: Any = AsyncHub(Anyone(servers, runtime), self._hints, self._wake)
        else:
            from locksmith_redis.hub import Hub

            self._hub = Hub(Anyone(servers, runtime), self._hints, self._wake)

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        said = several.read(url, asynchronous=runtime.is_async, port=PORT, example=EXAMPLE, timeout=TIMEOUT)
        db = database(said.options.get("db") or said.path or "0")
        return cls(_enough([said.server.on(db).at(*host) for host in said.hosts]), runtime, namespace)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_client: a list or tuple of redis.Redis (redis.asyncio.Redis), one for each server."""
        if not isinstance(client, list | tuple):
            raise ConfigurationError("pass a list of redis.Redis, one for each server of the quorum")
        servers = [from_client(each, asynchronous=runtime.is_async) for each in client]
        if any("path" in server.settings for server in servers):
            raise ConfigurationError("servers behind Unix sockets are on one machine, which is no quorum")
        return cls(_enough(servers), runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return self._address

    # Claims.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire. A ticket is a place in no line: `wait` tries again."""
        if claim.limit != 1:
            raise GuaranteeMissing(f"{self.address} has exclusive locks only: use another store for more permits")
        try:
            grant = await self._try(claim)
        except Undone:
            return None
        if grant is not None or not queue:
            return grant
        now = self.runtime.clock.now()
        return Ticket(claim, next(self._numbers), now, Inbox(self.runtime.event()), state=now)

    async def _try(self, claim: Claim) -> Grant | None:
        since = self.runtime.clock.now()
        within = min(self._votes.timeout, claim.ttl / 2)
        hidden = claim.name if "~~" in claim.key else ""
        said = terms(claim.ttl, 1, 1, 0.0, claim.info, hidden)
        tail = self._keys.counted(claim.key) + word(claim.owner.encode()) + said + NOWHERE
        # Where an earlier try is still to be undone, this one would be undone with it.
        voters = self._votes.without_debt(claim)
        answers = await self._votes.ask(ACQUIRE, tail, within, voters)
        yes = {voter: token for voter, answer in answers.items() if (token := _token(answer)) is not None}
        unknown = [voter for voter, answer in answers.items() if is_unknown(answer)]
        if len(yes) >= self._votes.majority:
            token = _agreed(list(yes.values()), self._votes.majority)
            holders = await self._adopt(claim, yes, token, within)
            if len(holders) >= self._votes.majority:
                await self._votes.undo(claim, [], [*unknown, *(voter for voter in yes if voter not in holders)])
                return Grant(claim, token, claim.ttl, since, state=tuple(holders))
        await self._votes.undo(claim, list(yes), unknown)
        self._refuse_conflict(claim, answers)
        able = [answer for answer in answers.values() if not _is_tombstone(answer)]
        if len(able) < self._votes.majority:
            raise Undone(f"{claim.name!r}: this attempt was undone on too many servers; try again.")
        silent = [answer for answer in answers.values() if isinstance(answer, Exception)]
        if len(answers) - len(silent) < self._votes.majority or len(yes) >= self._votes.majority:
            raise self._too_few(silent)
        return None

    async def _adopt(self, claim: Claim, yes: dict[Voter, int], token: int, within: float) -> list[Voter]:
        """Have those who said yes take on one token: who has it then."""
        others = [voter for voter, theirs in yes.items() if theirs != token]
        holders = [voter for voter in yes if voter not in others]
        if others:
            tail = self._keys.counted(claim.key) + word(claim.owner.encode()) + word(b"%d" % token)
            answers = await self._votes.ask(ADOPT, tail, within, others)
            holders += [voter for voter, answer in answers.items() if isinstance(answer, tuple) and answer[0] == 1]
        return holders

    def _refuse_conflict(self, claim: Claim, answers: dict[Voter, Answer | Exception]) -> None:
        for answer in answers.values():
            if isinstance(answer, tuple) and isinstance(answer[0], list) and answer[0][0] == -1:
                limit = answer[0][1]
                raise SettingsConflict(f"{claim.name!r} is in use with limit {limit}, not 1: agree on one, or wait")

    def _too_few(self, silent: list[Exception]) -> StoreUnavailable:
        failure = StoreUnavailable(
            f"Redis: fewer than {self._votes.majority} of {len(self._votes.voters)} servers agreed in time; what they "
            f"granted is undone. Try again when they are back. {translate(silent[-1]) if silent else ''}".rstrip()
        )
        failure.__cause__ = silent[-1] if silent else None
        return failure

    async def release(self, grant: Grant) -> bool:
        """See Store.release."""
        claim = grant.claim
        owned = b"%016d%b" % (grant.token, claim.owner.encode())
        hint = word(self._hints.channel) + word(claim.key.encode("ascii"))
        tail = self._keys.counted(claim.key) + word(owned) + hint
        answers = await self._votes.ask(QUORUM_RELEASE, tail, self._votes.timeout)
        holders = grant.state or self._votes.voters
        # Those who hold nothing of it may be silent.
        silent = {v: answer for v, answer in answers.items() if isinstance(answer, Exception) and v in holders}
        for voter in silent:
            self._votes.owe(voter, claim)
        # Known to a server, or sent twice: the first, unanswered request released it.
        known = sum(isinstance(answer, tuple) and (answer[0] == 1 or answer[2]) for answer in answers.values())
        if known >= self._votes.majority:
            return True
        if known + len(silent) >= self._votes.majority:
            raise self._too_few(list(silent.values()))
        return False

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """See Store.abandon. Servers that do not answer are told later."""
        silent = await self._votes.abandon(claim, tombstone=tombstone)
        if len(self._votes.voters) - len(silent) < self._votes.majority:
            raise self._too_few(silent)

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat. A grant is held while a majority says so, and lost when a majority cannot say so any more."""
        since = self.runtime.clock.now()
        waiting: list[Word] = [Waiting(since)] * len(tickets)
        if not grants:
            return waiting
        chunks = [grants[at : at + CHUNK] for at in range(0, len(grants), CHUNK)]
        said = await self._votes.ask_scripts(
            lambda source: [beat(self._keys, chunk, source=source) for chunk in chunks], within
        )
        words: list[Word] = []
        for number, chunk in enumerate(chunks):
            answers = [theirs[number] for theirs in said.values()]
            words += [self._count(grant, at, answers, since) for at, grant in enumerate(chunk)]
        return words + waiting

    def _count(self, grant: Grant, at: int, answers: list[Answer | Exception], since: float) -> Word:
        kinds = [answer[0][2 * at] for answer in answers if isinstance(answer, tuple)]
        if kinds.count(1) >= self._votes.majority:
            return Held(grant.claim.ttl, since)
        if kinds.count(0) > len(self._votes.voters) - self._votes.majority:
            return Lost()
        silent = [answer for answer in answers if isinstance(answer, Exception)]
        return Unknown(unavailable(silent[-1] if silent else driver.ConnectionError("too few servers know this lease")))

    # Waiting: a line is nobody's here.

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait: naps of random length, and tries between them. Raises StoreError as `acquire` does, where no
        majority has answered for as long as a waiter may be silent.
        """
        now = self.runtime.clock.now
        until = None if timeout is None else now() + timeout
        naps = 0
        while ticket.inbox.peek() is None:
            left = None if until is None else until - now()
            if left is not None and left <= 0:
                return
            pause = _NAPS[min(naps, len(_NAPS) - 1)] * random.uniform(1, 2)
            naps = 0 if await self._nap(ticket, pause if left is None else min(pause, left)) else naps + 1
            if ticket.inbox.peek() is None:
                await self._try_for(ticket)

    async def _nap(self, ticket: Ticket, seconds: float) -> bool:
        """Sleep for so long, or until a hint; whether there was one."""
        nap = self._hints.nap(ticket.claim, self.runtime)

        def wake() -> None:
            nap.inbox.deliver(Gone())

        ticket.inbox.wakers.append(wake)
        try:
            if not self._hub.ready:
                with suppress(driver.RedisError, OSError):  # without hints it takes a little longer
                    await self._hub.start()
            if ticket.inbox.peek() is None:
                await self._hub.wait(nap, seconds)
        finally:
            ticket.inbox.wakers.remove(wake)
            self._hints.end(nap)
        hinted = nap.inbox.peek() is not None
        if hinted and ticket.inbox.peek() is None:
            await self.runtime.sleep(random.uniform(0, _JITTER))
        return hinted

    async def _try_for(self, ticket: Ticket) -> None:
        try:
            grant = await self._try(ticket.claim)
        except StoreUnavailable:
            if self.runtime.clock.now() - ticket.state > ticket.claim.waiter_ttl:
                raise
            return
        ticket.state = self.runtime.clock.now()
        if grant is not None:
            ticket.inbox.deliver(grant)
            if ticket.inbox.peek() is not grant:  # closed meanwhile: whoever waited will not look at it
                await self.abandon(ticket.claim, tombstone=True)

    async def _wake(self, naps: list[Ticket]) -> None:
        """Hints may have been lost while nobody was subscribed."""
        for nap in naps:
            nap.inbox.deliver(Gone())

    # Life.

    async def close(self) -> None:
        """See Store.close."""
        await self._hub.close()
        await self._votes.close()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        self._votes.after_fork()
        self._hub.after_fork()


def _enough(servers: list[Server]) -> list[Server]:
    if len(servers) < 3:
        raise ConfigurationError(f"a quorum needs at least three servers: write {EXAMPLE}")
    if len({(server.settings["host"], server.settings["port"]) for server in servers}) < len(servers):
        raise ConfigurationError("a server of the quorum is named twice: it has one vote, name each once")
    return servers


def _is_tombstone(answer: Answer | Exception) -> bool:
    return isinstance(answer, tuple) and isinstance(answer[0], list) and answer[0][0] == -2


def _token(answer: Answer | Exception) -> int | None:
    return answer[0] if isinstance(answer, tuple) and isinstance(answer[0], int) else None


def _agreed(tokens: list[int], majority: int) -> int:
    """The token of the grant: what a majority has agreed on before, or else the greatest."""
    token, count = Counter(tokens).most_common(1)[0]
    return token if count >= majority else max(tokens)
