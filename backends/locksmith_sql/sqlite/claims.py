"""The verbs about claims, each one a step inside a transaction (see ledger.py) or one statement of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from locksmith.errors import SettingsConflict
from locksmith.store import Claim, Gone, Grant, Held, Lost, Ticket, Waiting, Word
from locksmith_sql.sqlite.clock import micros
from locksmith_sql.sqlite.connection import Link
from locksmith_sql.sqlite.ledger import Ledger, original, plain


class Granted(NamedTuple):
    """A claim that was granted."""

    token: int


class Queued(NamedTuple):
    """A claim that stands in line."""

    number: int
    head_expires_in: float | None


def take(link: Link, claim: Claim) -> Granted | None:
    """Take a free name with limit 1 in one statement. None: it takes thought."""
    now, wall = link.clock.now(), link.clock.wall()
    ttl = micros(claim.ttl)
    key = claim.key
    row = (
        key, original(key, claim.name), wall, link.clock.era, claim.owner, now + ttl, now, ttl,
        micros(claim.lock_delay), plain(claim.info), wall,
    )  # fmt: skip
    rows = link.cursor.execute(link.sql.take, row).fetchall()
    return Granted(rows[0][0]) if rows else None


def give(link: Link, grant: Grant) -> bool:
    """Give back a name with limit 1 in one statement, where nobody is in line. False: it takes thought."""
    claim = grant.claim
    row = (link.clock.wall(), claim.key, claim.owner, grant.token, link.clock.era, link.clock.now())
    return link.cursor.execute(link.sql.give, row).rowcount == 1


def acquire(ledger: Ledger, claim: Claim, *, queue: bool) -> Granted | Queued | SettingsConflict | None:
    """See Store.acquire. A conflict is returned, not raised: what was due is expired and granted all the same."""
    name = ledger.open(claim.key, claim.name)
    if ledger.entombed(name, claim.owner):
        return None
    token = ledger.token_of(name, claim.owner)
    if token is not None:
        # The reply to an earlier try was lost: the same grant again, its ttl armed anew.
        ledger.rearm(name, claim.owner, micros(claim.ttl))
        return Granted(token)
    number = ledger.place(name, claim.owner)
    if number is not None:
        waiter_ttl = micros(claim.waiter_ttl)
        ledger.cursor.execute(ledger.sql.stay, (ledger.now + waiter_ttl, waiter_ttl, claim.key, number))
        return Queued(number, ledger.head_expires_in(name, number))
    if name.live and name.limit != claim.limit:
        return SettingsConflict(
            f"{claim.name!r} is in use with limit {name.limit}, not {claim.limit}: agree on one, or wait"
        )
    name.limit = claim.limit
    if not name.busy and name.closed <= ledger.now and ledger.fits(name, claim.permits):
        delay, info = micros(claim.lock_delay), plain(claim.info)
        return Granted(ledger.hold(name, claim.owner, claim.permits, micros(claim.ttl), delay, info))
    if not queue:
        return None
    number = ledger.enqueue(name, claim)
    return Queued(number, ledger.head_expires_in(name, number))


def acquire_all(ledger: Ledger, wanted: Sequence[Claim]) -> list[int] | SettingsConflict | None:
    """See Store.acquire_all: the tokens. Each is asked for; what was got is given back where one of them was not."""
    tokens: list[int] = []
    for claim in wanted:
        answer = acquire(ledger, claim, queue=False)
        if not isinstance(answer, Granted):
            for undone in wanted:
                abandon(ledger, undone, tombstone=False)
            return answer if isinstance(answer, SettingsConflict) else None
        tokens.append(answer.token)
    return tokens


def release(ledger: Ledger, grant: Grant) -> bool:
    """See Store.release."""
    claim = grant.claim
    name = ledger.open(claim.key, claim.name)
    if ledger.token_of(name, claim.owner) != grant.token:
        return False
    ledger.unhold(name, claim.owner)
    ledger.settle(name)
    _told(ledger, grant)
    return True


def abandon(ledger: Ledger, claim: Claim, *, tombstone: bool) -> None:
    """See Store.abandon."""
    # Before anything is granted: to whom is leaving nothing should be.
    name = ledger.load(claim.key, claim.name)
    ledger.expire(name)  # who was lost leaves a lock_delay, also where it is undone afterwards
    if tombstone:
        ledger.entomb(name, claim.owner)
    if ledger.unhold(name, claim.owner):
        ledger.cursor.execute(ledger.sql.told, (ledger.client, claim.owner))
    number = ledger.place(name, claim.owner)
    if number is not None:
        ledger.drop(name, number)
    ledger.settle(name)


def evict(ledger: Ledger, key: str, token: int) -> bool:
    """See Store.evict."""
    name = ledger.open(key)
    owner = name.owner if name.owner is not None and name.token == token else None
    if owner is None and name.used:
        row = ledger.cursor.execute(ledger.sql.holder_with, (key, token)).fetchone()
        owner = row[0] if row else None
    if owner is None:
        return False
    ledger.unhold(name, owner, lost=True)
    ledger.settle(name)
    return True


def holds(ledger: Ledger, grant: Grant) -> bool:
    """Whether this grant is held now: the guard of a cell."""
    claim = grant.claim
    return ledger.token_of(ledger.open(claim.key, claim.name), claim.owner) == grant.token


def beat(ledger: Ledger, grants: Sequence[Grant], tickets: Sequence[Ticket], since: float) -> list[Word]:
    """See Store.beat, for as many as fit into one transaction."""
    # A waiter that is late but was not passed over yet keeps its place: it is heard before anything is expired.
    for ticket in tickets:
        waiter_ttl = micros(ticket.claim.waiter_ttl)
        row = (ledger.now + waiter_ttl, waiter_ttl, ticket.claim.key, ticket.number)
        ledger.cursor.execute(ledger.sql.stay, row)
    words: list[Word] = [_beat_grant(ledger, grant, since) for grant in grants]
    words.extend(_beat_ticket(ledger, ticket, since) for ticket in tickets)
    return words


def _beat_grant(ledger: Ledger, grant: Grant, since: float) -> Word:
    claim = grant.claim
    ttl = micros(claim.ttl)
    held = False
    if claim.limit == 1 and claim.key not in ledger.opened:
        row = (ledger.now + ttl, ttl, ledger.wall, claim.key, claim.owner, grant.token, ledger.era, ledger.now)
        held = ledger.cursor.execute(ledger.sql.renew, row).rowcount == 1
    if not held:
        name = ledger.open(claim.key, claim.name)
        if ledger.token_of(name, claim.owner) != grant.token:
            return Lost()
        ledger.rearm(name, claim.owner, ttl)
    _told(ledger, grant)
    return Held(claim.ttl, since)


def _beat_ticket(ledger: Ledger, ticket: Ticket, since: float) -> Word:
    claim = ticket.claim
    name = ledger.open(claim.key, claim.name)
    number = ledger.place(name, claim.owner)
    if number == ticket.number:
        return Waiting(since, ledger.head_expires_in(name, number))
    token = ledger.token_of(name, claim.owner)
    if token is None:
        return Gone()
    return Grant(claim, token, claim.waiter_ttl, ticket.word_at, confirmed=False)


def _told(ledger: Ledger, grant: Grant) -> None:
    if not grant.confirmed:
        ledger.cursor.execute(ledger.sql.told, (ledger.client, grant.claim.owner))
