"""EtcdStore: claims on etcd. See docs/stores/etcd.md for what is promised and under which assumptions.

The order of a name's keys by create_revision is its line; etcd's own lock service keeps it in the same way (concurrency
package, Mutex). Here a claim may also want several permits of a limit, and nobody watches a key of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Self

from locksmith import nodes
from locksmith.errors import SettingsConflict, StoreError, StoreUnavailable
from locksmith.runtime import Blocking, Runtime
from locksmith.store import Claim, Gone, Grant, Guarantee, Inbox, Ticket, Word
from locksmith_etcd import beats, keys
from locksmith_etcd import url as urls
from locksmith_etcd.cells import Cells
from locksmith_etcd.channels import DELETE, KEEPALIVE, TXN, Channels
from locksmith_etcd.errors import LeaseGone
from locksmith_etcd.hub import Hub
from locksmith_etcd.keys import Keys
from locksmith_etcd.leases import Lease, Leases, On
from locksmith_etcd.link import Link, Reply
from locksmith_etcd.people import People
from locksmith_etcd.rpc import DeleteRangeRequest, LeaseKeepAliveRequest
from locksmith_etcd.url import Cluster
from locksmith_etcd.waiters import Place

_CLOSING: float = 2.0
"""Seconds that closing may take to end its leases; otherwise they end by themselves."""
_ATTEMPTS = 3
"""How often a claim is put on a new lease because the last one had ended."""


class EtcdStore(Cells, People):
    """Claims as keys on leases. One try, one place in line and one release are one transaction each."""

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

    def __init__(self, cluster: Cluster, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._keys = Keys(namespace)
        self._timeout = cluster.timeout
        self._channels = Channels(cluster)
        self._link = Link(self._channels, runtime)
        self._leases = Leases(self._link, runtime)
        # gRPC's streams block whoever reads them, so one thread does, in both runtimes.
        reading: Runtime = runtime if self._channels.native_async else Blocking(runtime.clock)
        self._hub = Hub(Link(self._channels, reading), reading, self._keys.locks, self._places)

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        return cls(urls.from_url(url), runtime, namespace)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_client: a gRPC channel, or whatever has one as its `channel`, as python-etcd3's client."""
        return cls(urls.from_client(client, asynchronous=runtime.is_async), runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return self._channels.cluster.address

    # Claims.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire."""
        if not queue:
            return await self._try(claim)
        hub, name = self._hub, self._keys.name(claim.key)
        if not hub.ready:
            # Before the first place in line of this client: whoever gets the name at once needs no watch.
            reply = await self._try(claim)
            if reply is not None:
                return reply
        # Known before the request is sent: the end of those ahead may be told before its reply. And before the reader
        # is looked for, which ends where nobody waits.
        hub.waiters.expect(name, claim.owner)
        try:
            if not hub.ready:
                await hub.start(self.runtime.event(), self._timeout)
            reply = await self._enqueue(claim)
        except BaseException:
            hub.waiters.forget(name, claim.owner)
            raise
        if not isinstance(reply, Ticket):
            hub.waiters.forget(name, claim.owner)
        return reply

    async def _try(self, claim: Claim) -> Grant | Ticket | None:
        reply, lease = await self._put(claim, self._keys.take_free)
        while not reply.message.succeeded:
            line = keys.line(reply.message.responses[0].response_range.kvs)
            mine = next((at for at, node in enumerate(line) if node.owner == claim.owner), None)
            if mine is not None:
                # A repeated request. A waiter's place is for `_enqueue` to find.
                return await self._again(claim, reply) if mine < nodes.granted(line) else None
            nodes.check_limit(claim, line[:1])
            used = sum(node.permits for node in line)
            if reply.message.responses[1].response_range.kvs or used + claim.permits > claim.limit:
                return None
            # It fits, unless somebody new comes first; those who go meanwhile only make room.
            seen = reply.message.header.revision
            reply, lease = await self._put(claim, partial(self._keys.take_behind, seen))
        return Grant(claim, reply.message.header.revision, lease.ttl, lease.since, state=On(lease, claim.ttl))

    async def _enqueue(self, claim: Claim) -> Grant | Ticket | None:
        reply, lease = await self._put(claim, self._keys.enqueue)
        responses = reply.message.responses
        if reply.message.succeeded:
            found = responses[1].response_range.kvs
        else:
            if responses[1].response_range.kvs:
                return None  # tombstoned
            found = responses[0].response_range.kvs
            lease = await self._lease_of(claim, found, lease)
        line = keys.line(found)
        mine = next(at for at, node in enumerate(line) if node.owner == claim.owner)
        try:
            # The first alone: one behind it that has another limit is about to leave, as this one would be.
            nodes.check_limit(claim, line[:mine][:1])
        except SettingsConflict:
            await self.abandon(claim, tombstone=False)
            raise
        token = line[mine].token
        if mine < nodes.granted(line):
            return Grant(claim, token, lease.ttl, lease.since, state=On(lease, claim.ttl))
        place = Place(self._keys.name(claim.key), self._keys.claim(claim), lease)
        ticket = Ticket(claim, token, lease.since, Inbox(self.runtime.event()), state=place)
        self._hub.waiters.bind(ticket, line[:mine])
        return ticket

    async def _again(self, claim: Claim, reply: Reply) -> Grant | Ticket | None:
        """The grant of a claim that turned out to be there already: enqueueing finds out on which lease it is."""
        return None if reply.message.responses[1].response_range.kvs else await self._enqueue(claim)

    async def _lease_of(self, claim: Claim, found: Sequence[Any], ours: Lease) -> Lease:
        """The lease that a claim lies on that was there already; kept alive where it is another client's."""
        mine = self._keys.claim(claim)
        number = next(kv.lease for kv in found if kv.key == mine)
        return ours if number == ours.id else await self._leases.adopt(number, self._timeout)

    async def _put(self, claim: Claim, build: Callable[[Claim, bytes, int], Any]) -> tuple[Reply, Lease]:
        """Send a transaction that puts the claim on this client's lease for its ttl."""
        written = lambda lease: build(claim, nodes.value(claim, lease.ttl, time.time()), lease.id)  # noqa: E731
        return await self._put_for(claim.ttl, written)

    async def _put_for(self, ttl: float, build: Callable[[Lease], Any]) -> tuple[Reply, Lease]:
        until = self._now() + self._timeout
        for _ in range(_ATTEMPTS):
            lease = await self._leases.of(ttl, max(0.001, until - self._now()))
            try:
                reply = await self._put_on(lease, build(lease), max(0.001, until - self._now()))
            except LeaseGone:
                lease.lost = True
                continue
            if not lease.lost:
                return reply, lease
        raise StoreUnavailable("etcd ends leases faster than they can be used: raise the ttl, and see its log.")

    async def _put_on(self, lease: Lease, request: Any, within: float) -> Reply:
        if not self._leases.is_due(lease):
            return await self._link.ask(TXN, request, within)
        alive = LeaseKeepAliveRequest(ID=lease.id)
        reply, kept = await self._link.ask_all([(TXN, request), (KEEPALIVE, alive)], within)
        if isinstance(reply, StoreError):
            raise reply
        if isinstance(kept, Reply):
            lease.hear(kept.message, kept.since)
        return reply

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        """See Store.takes_together: as many as servers take in one transaction, unless they are told otherwise."""
        return len(claims) <= keys.TOGETHER

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        """See Store.acquire_all: one transaction, which puts all keys or none."""

        def build(lease: Lease) -> Any:
            values = [nodes.value(claim, lease.ttl, time.time()) for claim in claims]
            return self._keys.take_all_free(claims, values, lease.id)

        reply, lease = await self._put_for(claims[0].ttl, build)
        if reply.message.succeeded:
            token, state = reply.message.header.revision, On(lease, claims[0].ttl)
            return [Grant(claim, token, lease.ttl, lease.since, state=state) for claim in claims]
        return await self._known(claims, [response.response_range.kvs for response in reply.message.responses], lease)

    async def _known(self, claims: Sequence[Claim], found: Sequence[Any], ours: Lease) -> list[Grant] | None:
        """The grants of claims that were all there already, as a repeated request finds them; else none is left."""
        lines = [keys.line(kvs) for kvs in found[: len(claims)]]
        first = [line[0].owner if line else "" for line in lines]
        if first == [claim.owner for claim in claims]:
            leases = [await self._lease_of(claim, kvs, ours) for claim, kvs in zip(claims, found, strict=False)]
            return [
                Grant(claim, line[0].token, lease.ttl, lease.since, state=On(lease, claim.ttl))
                for claim, line, lease in zip(claims, lines, leases, strict=True)
            ]
        for claim, line in zip(claims, lines, strict=True):
            if any(node.owner == claim.owner for node in line):
                await self.abandon(claim, tombstone=False)
        for claim, line in zip(claims, lines, strict=True):
            nodes.check_limit(claim, line[:1])
        return None

    def leave(self, ticket: Ticket) -> None:
        """See Store.leave."""
        self._hub.waiters.leave(ticket)

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat: a word about each lease, and a look at each key, all side by side."""
        return await beats.beat(self._link, self._keys, self._leases, grants, tickets, within)

    async def _places(self, link: Link, tickets: list[Ticket]) -> list[Grant | Gone | None]:
        return await beats.places(link, self._keys, tickets, self._timeout)

    async def release(self, grant: Grant) -> bool:
        """See Store.release. "Not known" by a second request means that the first, unanswered one released it."""
        reply = await self._link.ask(TXN, self._keys.give_back(grant.claim, grant.token))
        return reply.again or bool(reply.message.succeeded)

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """See Store.abandon."""
        self._hub.waiters.forget(self._keys.name(claim.key), claim.owner)
        if not tombstone:
            await self._link.ask(DELETE, DeleteRangeRequest(key=self._keys.claim(claim)))
            return
        lease = await self._leases.for_tombs(self._timeout)
        try:
            await self._link.ask(TXN, self._keys.bury(claim, lease.id))
        except LeaseGone:
            lease.lost = True
            lease = await self._leases.for_tombs(self._timeout)
            await self._link.ask(TXN, self._keys.bury(claim, lease.id))

    # Life.

    async def close(self) -> None:
        """See Store.close. What is left on this client's leases ends with them."""
        if self._channels.closed:
            return
        await self._hub.close()
        with suppress(StoreUnavailable):  # then they end by themselves
            await self._leases.close(min(_CLOSING, self._timeout))
        self._channels.close()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        self._channels.after_fork()
        self._leases.fresh()
        self._hub.fresh()

    def _now(self) -> float:
        return self.runtime.clock.now()
