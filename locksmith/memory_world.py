"""The world behind memory://: the rules of the store interface as plain data, judged by one clock, without a lock.

This is the executable specification. Whoever writes a store can read here what each operation must do to a name; and a
store that can only keep bytes may keep a World in them (`names`, `tickets`), as examples/thirdparty_store does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from locksmith.errors import SettingsConflict
from locksmith.store import Claim, Gone, Grant, Held, HolderView, Inspection, Lost, Ticket, WaiterView, Waiting, Word

TOKEN_MEMORY: Final = 86_400.0
"""Seconds a name's last token is kept after its last use; microseconds carry the growth across the gap."""
TOMBSTONE: Final = 60.0
"""Seconds an abandoned owner is refused: longer than a stalled request lives."""


@dataclass(slots=True)
class Holder:
    """A granted claim."""

    grant: Grant
    granted_at: float
    expires: float
    ticket: int = 0


@dataclass(slots=True)
class Waiter:
    """A claim in line."""

    ticket: Ticket
    joined_at: float
    expires: float


@dataclass(slots=True)
class NameState:
    """Everything known of one name."""

    limit: int = 1
    token: int = 0
    holders: dict[str, Holder] = field(default_factory=dict)
    line: dict[str, Waiter] = field(default_factory=dict)
    dead: dict[str, float] = field(default_factory=dict)
    closed_until: float = 0.0
    used_at: float = 0.0

    def live_line(self, now: float) -> Iterator[Waiter]:
        """Waiters that were heard of lately, in order."""
        return (waiter for waiter in self.line.values() if waiter.expires > now)


Handover = tuple[Ticket, Grant]


class World:
    """Names and their states. Every method takes `now` (seconds) and `micros` (for tokens), and decides from those."""

    def __init__(self) -> None:
        self.names: dict[str, NameState] = {}
        self.tickets = 0
        """The number of the last ticket."""

    def acquire(
        self, claim: Claim, ticket: Ticket | None, since: float, now: float, micros: int
    ) -> tuple[Grant | Ticket | SettingsConflict | None, list[Handover]]:
        """See Store.acquire. `ticket` is what to put in line, or None for a try. `since` goes into the grant.

        A SettingsConflict is returned, not raised: whoever was granted on the way must be told all the same.
        """
        state = self.names.setdefault(claim.key, NameState(claim.limit))
        handed = self.settle(state, now, micros)
        state.used_at = now
        if claim.owner in state.dead:
            return None, handed
        if holder := state.holders.get(claim.owner):
            # The reply to an earlier try was lost: the same grant again, its ttl armed anew.
            return self._renew(holder, claim.ttl, since, now), handed
        if waiter := state.line.get(claim.owner):
            waiter.expires = now + claim.waiter_ttl
            return waiter.ticket, handed
        nobody = not state.holders and next(state.live_line(now), None) is None
        if not nobody and state.limit != claim.limit:
            told = f"{claim.name!r} is in use with limit {state.limit}, not {claim.limit}: agree on one, or wait"
            return SettingsConflict(told), handed
        if nobody:
            state.line.clear()
            state.limit = claim.limit
        if not state.line and state.closed_until <= now and self._fits(state, claim):
            return self._grant(state, claim, since, now, micros), handed
        if ticket is None:
            return None, handed
        self.tickets += 1
        ticket.number = self.tickets
        state.line[claim.owner] = Waiter(ticket, now, now + claim.waiter_ttl)
        ticket.head_expires_in = self._head_expires_in(state, claim.owner, now)
        return ticket, handed

    def acquire_all(
        self, claims: Sequence[Claim], since: float, now: float, micros: int
    ) -> tuple[list[Grant] | SettingsConflict | None, list[Handover]]:
        """See Store.acquire_all. Each is asked for; what was got is given back where one of them was not."""
        grants: list[Grant] = []
        told: list[Handover] = []
        for claim in claims:
            reply, handed = self.acquire(claim, None, since, now, micros)
            told += handed
            if not isinstance(reply, Grant):
                for undone in claims:
                    told += self.abandon(undone, False, now, micros)
                return reply if isinstance(reply, SettingsConflict) else None, told
            grants.append(reply)
        return grants, told

    def beat_grant(self, grant: Grant, since: float, now: float, micros: int) -> tuple[Word, list[Handover]]:
        """See Store.beat, for a grant."""
        state = self.names.get(grant.claim.key)
        if state is None:
            return Lost(), []
        handed = self.settle(state, now, micros)
        holder = state.holders.get(grant.claim.owner)
        if holder is None or holder.grant.token != grant.token:
            return Lost(), handed
        self._renew(holder, grant.claim.ttl, since, now)
        return Held(grant.claim.ttl, since), handed

    def beat_ticket(self, ticket: Ticket, since: float, now: float, micros: int) -> tuple[Word, list[Handover]]:
        """See Store.beat, for a ticket. A waiter that is late but was not passed over yet keeps its place."""
        claim = ticket.claim
        state = self.names.get(claim.key)
        if state is None:
            return Gone(), []
        if (waiter := state.line.get(claim.owner)) and waiter.ticket.number == ticket.number:
            waiter.expires = now + claim.waiter_ttl
        handed = self.settle(state, now, micros)
        if (holder := state.holders.get(claim.owner)) and holder.ticket == ticket.number:
            return holder.grant._replace(since=ticket.word_at), handed
        if (waiter := state.line.get(claim.owner)) is None or waiter.ticket.number != ticket.number:
            return Gone(), handed
        return Waiting(since, self._head_expires_in(state, claim.owner, now)), handed

    def release(self, grant: Grant, now: float, micros: int) -> tuple[bool, list[Handover]]:
        """See Store.release."""
        state = self.names.get(grant.claim.key)
        if state is None:
            return False, []
        handed = self.settle(state, now, micros)
        holder = state.holders.get(grant.claim.owner)
        if holder is None or holder.grant.token != grant.token:
            return False, handed
        del state.holders[grant.claim.owner]
        state.used_at = now
        return True, handed + self.settle(state, now, micros)

    def abandon(self, claim: Claim, tombstone: bool, now: float, micros: int) -> list[Handover]:
        """See Store.abandon."""
        state = self.names.get(claim.key)
        if state is None:
            if not tombstone:
                return []
            state = self.names[claim.key] = NameState(claim.limit, used_at=now)
        if tombstone:
            state.dead[claim.owner] = now + TOMBSTONE
        self._expire(state, now)  # who was lost leaves a lock_delay, also where it is undone afterwards
        state.holders.pop(claim.owner, None)
        state.line.pop(claim.owner, None)
        return self.settle(state, now, micros)

    def evict(self, key: str, token: int, now: float, micros: int) -> tuple[bool, list[Handover]]:
        """See Store.evict."""
        state = self.names.get(key)
        if state is None:
            return False, []
        handed = self.settle(state, now, micros)
        for holder in state.holders.values():
            if holder.grant.token == token:
                holder.expires = now
                return True, handed + self.settle(state, now, micros)
        return False, handed

    def inspect(self, key: str, name: str, now: float) -> Inspection:
        """See Store.inspect."""
        state = self.names.get(key)
        if state is None:
            return Inspection(name, None, 0)
        holders = [
            HolderView(
                owner, h.grant.token, h.grant.claim.permits, now - h.granted_at, h.expires - now, h.grant.claim.info
            )
            for owner, h in state.holders.items()
            if h.expires > now
        ]
        waiters = [
            WaiterView(w.ticket.claim.owner, w.ticket.claim.permits, now - w.joined_at, w.ticket.claim.info)
            for w in state.live_line(now)
        ]
        limit = state.limit if holders or waiters else None
        return Inspection(name, limit, state.token, holders, waiters, max(0.0, state.closed_until - now))

    def holds(self, grant: Grant, now: float) -> bool:
        """Whether this grant is held now: the guard of a cell."""
        state = self.names.get(grant.claim.key)
        holder = state and state.holders.get(grant.claim.owner)
        return bool(holder and holder.grant.token == grant.token and holder.expires > now)

    def settle(self, state: NameState, now: float, micros: int) -> list[Handover]:
        """Rule 5: expire what is due, then grant from the head of the line. Returns whom to tell."""
        self._expire(state, now)
        for owner in [owner for owner, until in state.dead.items() if until <= now]:
            del state.dead[owner]
        handed = []
        while state.line and state.closed_until <= now:
            head = next(iter(state.line.values()))
            claim = head.ticket.claim
            if head.expires <= now:
                del state.line[claim.owner]
            elif self._fits(state, claim):
                del state.line[claim.owner]
                handed.append((head.ticket, self._hand_over(state, head.ticket, now, micros)))
            else:
                break
        return handed

    def sweep(self, now: float) -> None:
        """Forget names that nobody used for a day."""
        for key, state in list(self.names.items()):
            if not (state.holders or state.line or state.dead) and state.used_at + TOKEN_MEMORY <= now:
                del self.names[key]

    def _expire(self, state: NameState, now: float) -> None:
        for owner in [owner for owner, holder in state.holders.items() if holder.expires <= now]:
            ended = state.holders.pop(owner)
            if ended.grant.claim.lock_delay:
                state.closed_until = max(state.closed_until, ended.expires + ended.grant.claim.lock_delay)

    def _fits(self, state: NameState, claim: Claim) -> bool:
        used = sum(holder.grant.claim.permits for holder in state.holders.values())
        return used + claim.permits <= state.limit

    def _grant(self, state: NameState, claim: Claim, since: float, now: float, micros: int) -> Grant:
        state.token = max(state.token + 1, micros)
        grant = Grant(claim, state.token, claim.ttl, since)
        state.holders[claim.owner] = Holder(grant, now, now + claim.ttl)
        return grant

    def _hand_over(self, state: NameState, ticket: Ticket, now: float, micros: int) -> Grant:
        # Nobody has confirmed this yet: a lease of waiter_ttl, so that a dead waiter costs no more than that.
        claim = ticket.claim
        state.token = max(state.token + 1, micros)
        grant = Grant(claim, state.token, claim.waiter_ttl, ticket.word_at, confirmed=False)
        state.holders[claim.owner] = Holder(grant, now, now + claim.waiter_ttl, ticket.number)
        return grant

    def _renew(self, holder: Holder, ttl: float, since: float, now: float) -> Grant:
        holder.expires = now + ttl
        holder.grant = holder.grant._replace(ttl=ttl, since=since, confirmed=True)
        return holder.grant

    def _head_expires_in(self, state: NameState, owner: str, now: float) -> float | None:
        if next(iter(state.line), None) != owner:
            return None
        first = min((holder.expires for holder in state.holders.values()), default=now)
        if self._fits(state, state.line[owner].ticket.claim):
            first = now  # only a lock_delay is in the way
        return max(state.closed_until, first) - now
