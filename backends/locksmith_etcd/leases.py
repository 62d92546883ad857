"""etcd's leases: one per client and ttl, granted when it is needed, kept alive by words about claims alone."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from typing import Any, Final, NamedTuple

from locksmith.errors import StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith_etcd import rpc
from locksmith_etcd.channels import GRANT, KEEPALIVE, REVOKE
from locksmith_etcd.errors import LeaseGone
from locksmith_etcd.link import Link

TOMBSTONE: Final = 60
"""Seconds that an abandoned owner is refused: longer than a stalled request lives."""


class Lease:
    """A lease as we last heard of it."""

    __slots__ = ("id", "lost", "since", "ttl")

    def __init__(self, number: int, ttl: float, since: float) -> None:
        self.id = number
        self.ttl = ttl
        """The seconds that the server keeps it after its last word, which may be more."""
        self.since = since
        """The clock, read before the last answered word was sent."""
        self.lost = False

    def hear(self, answer: Any, since: float) -> None:
        """What a keep-alive was answered."""
        if answer.TTL <= 0:
            self.lost = True
        elif since > self.since:
            self.since, self.ttl = since, float(answer.TTL)


class On(NamedTuple):
    """What a grant's state tells: where its key lies, and the ttl that its claim was put there for."""

    lease: Lease
    ttl: float


class Leases:
    """The leases of one client."""

    def __init__(self, link: Link, runtime: Runtime) -> None:
        self._link = link
        self._now = runtime.clock.now
        self.fresh()

    def fresh(self) -> None:
        """Forget them all: those of a parent process are not ours."""
        self._lock = threading.Lock()
        self._by_ttl: dict[int, Lease] = {}
        self._tombs: Lease | None = None
        self._spare: list[int] = []

    @staticmethod
    def seconds(ttl: float) -> int:
        """The ttl as etcd counts: in whole seconds, never less than was asked for."""
        return max(1, math.ceil(ttl))

    async def of(self, ttl: float, within: float) -> Lease:
        """The lease for this ttl, which may want a word soon; see `is_due`. Raises StoreError."""
        seconds = self.seconds(ttl)
        lease = self._by_ttl.get(seconds)
        if lease is not None and not self.is_over(lease):
            return lease
        fresh = await self.grant(seconds, within)
        with self._lock:
            found = self._by_ttl.get(seconds)
            if found is not None and found is not lease and not self.is_over(found):
                self._spare.append(fresh.id)  # another thread was faster
                return found
            self._by_ttl[seconds] = fresh
        return fresh

    def is_over(self, lease: Lease) -> bool:
        """Whether the server may have let it end by now."""
        return lease.lost or self._now() >= lease.since + lease.ttl

    def is_due(self, lease: Lease) -> bool:
        """Whether a new claim on it would be believed in for too short a time."""
        return self._now() >= lease.since + lease.ttl / 4

    async def for_tombs(self, within: float) -> Lease:
        """A lease that lasts for as long as a tombstone must; not kept alive. Raises StoreError."""
        lease = self._tombs
        if lease is None or lease.lost or self._now() >= lease.since + lease.ttl - TOMBSTONE:
            lease = self._tombs = await self.grant(2 * TOMBSTONE, within)
        return lease

    async def grant(self, seconds: int, within: float) -> Lease:
        """A new lease, and nobody else's. Raises StoreError."""
        reply = await self._link.ask(GRANT, rpc.LeaseGrantRequest(TTL=seconds), within)
        if reply.message.error:
            raise StoreUnavailable(f"etcd: {reply.message.error}; try again.")
        return Lease(reply.message.ID, float(reply.message.TTL), reply.since)

    async def adopt(self, number: int, within: float) -> Lease:
        """Somebody else's lease, kept alive just now. Raises LeaseGone, StoreError."""
        reply = await self._link.ask(KEEPALIVE, rpc.LeaseKeepAliveRequest(ID=number), within)
        lease = Lease(number, float(reply.message.TTL), reply.since)
        if lease.ttl <= 0:
            raise LeaseGone("etcd: the lease of a claim that was there already has ended; try again.")
        return lease

    async def revoke(self, number: int) -> None:
        """End a lease where the server can be asked; where not, it ends by itself."""
        with suppress(StoreError):
            await self._link.ask(REVOKE, rpc.LeaseRevokeRequest(ID=number))

    async def close(self, within: float) -> None:
        """End them all, and with them what is left on them."""
        with self._lock:
            mine = [lease.id for lease in self._by_ttl.values() if not lease.lost] + self._spare
            if self._tombs is not None:
                mine.append(self._tombs.id)
            self._by_ttl, self._spare, self._tombs = {}, [], None
        if mine:
            await self._link.ask_all([(REVOKE, rpc.LeaseRevokeRequest(ID=number)) for number in mine], within)
