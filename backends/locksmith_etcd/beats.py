"""The batched word about grants and tickets: leases are kept alive, and every key is proved to be there still."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from locksmith import nodes
from locksmith.errors import StoreError, StoreUnavailable
from locksmith.store import Gone, Grant, Held, Lost, Ticket, Unknown, Waiting, Word
from locksmith_etcd import keys
from locksmith_etcd.channels import KEEPALIVE, TXN
from locksmith_etcd.keys import Keys
from locksmith_etcd.leases import Lease, Leases, On
from locksmith_etcd.link import Link, Reply
from locksmith_etcd.rpc import LeaseKeepAliveRequest
from locksmith_etcd.waiters import grant_of


class Round:
    """One round of questions and what was answered.

    A key that is there, on a lease that has answered, lives for that lease's ttl from the moment before both questions
    were sent: so they are sent side by side, and either may be answered first.
    """

    def __init__(self, link: Link, all_keys: Keys, within: float) -> None:
        self._link = link
        self._keys = all_keys
        self._now = link.now
        self._until = link.now() + within
        self._found: dict[bytes, list[Any] | StoreError] = {}
        self._heard: dict[int, Lease | StoreError] = {}

    @property
    def left(self) -> float:
        """Seconds until it must be over."""
        return max(0.01, self._until - self._now())

    async def ask(self, reads: Sequence[Any], leases: Iterable[Lease]) -> None:
        """Read keys, and keep leases alive, side by side."""
        alive = {lease.id: lease for lease in leases}
        chunks = [reads[at : at + keys.CHUNK] for at in range(0, len(reads), keys.CHUNK)]
        words = [(KEEPALIVE, LeaseKeepAliveRequest(ID=number)) for number in alive]
        proofs = [(TXN, self._keys.proof(chunk)) for chunk in chunks]
        answers = await self._link.ask_all([*words, *proofs], self.left)
        for lease, answer in zip(alive.values(), answers, strict=False):
            if isinstance(answer, Reply):
                lease.hear(answer.message, answer.since)
            self._heard[lease.id] = lease if isinstance(answer, Reply) else answer
        for chunk, answer in zip(chunks, answers[len(alive) :], strict=True):
            for at, read in enumerate(chunk, 1):
                there = answer.message.responses[at].response_range.kvs if isinstance(answer, Reply) else answer
                self._found[read.request_range.key] = there

    def strangers(self, grants: Iterable[Grant]) -> list[Lease]:
        """Leases that only the keys could tell of: their grants were given to another client of this process' user."""
        found = [self._found[self._keys.claim(grant.claim)] for grant in grants]
        numbers = {kvs[0].lease for kvs in found if not isinstance(kvs, StoreError) and kvs} - self._heard.keys()
        return [Lease(number, 0.0, -math.inf) for number in numbers]

    def grant(self, grant: Grant) -> Word:
        """What has become of a grant."""
        kvs = self._found[self._keys.claim(grant.claim)]
        if isinstance(kvs, StoreError):
            return _unknown(kvs)
        if not kvs or kvs[0].create_revision != grant.token:
            return Lost()
        lease = self._heard.get(kvs[0].lease)
        if isinstance(lease, StoreError):
            return _unknown(lease)
        return Lost() if lease is None or lease.lost else Held(lease.ttl, lease.since)

    def ticket(self, ticket: Ticket) -> Word:
        """What has become of a place in line."""
        kvs = self._found[ticket.state.name]
        lease = self._heard[ticket.state.lease.id]
        if isinstance(kvs, StoreError):
            return _unknown(kvs)
        if isinstance(lease, StoreError):
            return _unknown(lease)
        return Gone() if lease.lost else self.place(ticket) or Waiting(lease.since)

    def place(self, ticket: Ticket) -> Grant | Gone | None:
        """The news of a ticket, judged by its name's keys alone; None: there are none."""
        kvs = self._found[ticket.state.name]
        if isinstance(kvs, StoreError):
            return None
        line = keys.line(kvs)
        mine = next((at for at, node in enumerate(line) if node.token == ticket.number), None)
        if mine is None or line[mine].owner != ticket.claim.owner:
            return Gone()
        return grant_of(ticket) if mine < nodes.granted(line) else None


async def beat(
    link: Link, all_keys: Keys, leases: Leases, grants: Sequence[Grant], tickets: Sequence[Ticket], within: float
) -> list[Word]:
    """See Store.beat."""
    if not grants and not tickets:
        return []
    round_ = Round(link, all_keys, within)
    names = {ticket.state.name for ticket in tickets}
    reads = [keys.read(all_keys.claim(grant.claim)) for grant in grants] + [keys.read_all(name) for name in names]
    known = [grant.state.lease for grant in grants if grant.state is not None] + [
        ticket.state.lease for ticket in tickets
    ]
    await round_.ask(reads, known)
    if strangers := round_.strangers(grants):
        await round_.ask([], strangers)
    words = [round_.grant(grant) for grant in grants]
    for at, grant in enumerate(grants):
        if _lingers(grant) and isinstance(words[at], Held):
            words[at] = await _move(link, all_keys, leases, grant, round_.left)
    return words + [round_.ticket(ticket) for ticket in tickets]


async def places(link: Link, all_keys: Keys, tickets: Sequence[Ticket], within: float) -> list[Grant | Gone | None]:
    """What has become of these tickets; None: they wait, or it could not be asked."""
    round_ = Round(link, all_keys, within)
    await round_.ask([keys.read_all(name) for name in {ticket.state.name for ticket in tickets}], [])
    return [round_.place(ticket) for ticket in tickets]


def _lingers(grant: Grant) -> bool:
    """Whether this grant is to end some time from now, and not when its lease does: see Engine.linger.

    Also one that lingers for about its ttl: its lease is kept alive for as long as the client uses that ttl.
    """
    on: On | None = grant.state
    return on is not None and on.ttl != grant.claim.ttl


async def _move(link: Link, all_keys: Keys, leases: Leases, grant: Grant, within: float) -> Word:
    # On a lease of its own, which nobody keeps alive.
    try:
        lease = await leases.grant(Leases.seconds(grant.claim.ttl), within)
        reply = await link.ask(TXN, all_keys.move(grant.claim, grant.token, lease.id), within)
    except StoreError as error:
        return _unknown(error)
    return Held(lease.ttl, lease.since) if reply.message.succeeded else Lost()


def _unknown(error: StoreError) -> Unknown:
    if isinstance(error, StoreUnavailable):
        return Unknown(error)
    unavailable = StoreUnavailable(str(error))
    unavailable.__cause__ = error
    return Unknown(unavailable)
