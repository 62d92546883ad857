"""SQL against the executable specification: the same random steps on both, compared after each of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from testkit.model import Together

from locksmith import memory_world
from locksmith.errors import SettingsConflict
from locksmith.memory_world import NameState, World
from locksmith.runtime import drive
from locksmith.store import Claim, Gone, Grant, Held, Inbox, Lost, Ticket, Waiting
from locksmith_sql import SQLiteStore

MICROS = 1_000_000
NAMES = ("a", "b", "c" * 300)
LIMITS = (1, 1, 3)


class Specification(World):
    """The specification, but for when dead waiters leave the line, which is nobody's business.

    Ours leave the head of it also while the name is closed, and not when the holder of an exclusive name is renewed.
    """

    def beat_grant(self, grant: Grant, since: float, now: float, micros: int) -> Any:
        state = self.names.get(grant.claim.key)
        holder = state and state.holders.get(grant.claim.owner)
        if state and state.limit == 1 and holder and holder.grant.token == grant.token and holder.expires > now:
            self._renew(holder, grant.claim.ttl, since, now)
            return Held(grant.claim.ttl, since), []
        return super().beat_grant(grant, since, now, micros)

    def settle(self, state: NameState, now: float, micros: int) -> list[tuple[Ticket, Grant]]:
        handed = super().settle(state, now, micros)
        while state.line and (head := next(iter(state.line.values()))).expires <= now:
            del state.line[head.ticket.claim.owner]
        return handed

    def _head_expires_in(self, state: NameState, owner: str, now: float) -> float | None:
        # Where the permits are free and only a lock_delay is in the way, no other holder's end is waited for.
        expected = super()._head_expires_in(state, owner, now)
        if expected is not None and self._fits(state, state.line[owner].ticket.claim):
            return max(state.closed_until - now, 0)
        return expected


class Pair(Together):
    """One store and one specification that are told the same."""

    def __init__(self, store: SQLiteStore, clock: Any, seed: int, make_claim: Callable[..., Claim]) -> None:
        self.store, self.clock, self.make_claim = store, clock, make_claim
        self.world = Specification()
        self.random = random.Random(seed)
        self.claims: list[Claim] = []
        self.grants: dict[str, Grant] = {}
        self.tickets: dict[str, tuple[Ticket, Ticket]] = {}

    @property
    def at(self) -> tuple[int, int]:
        return self.clock.now(), self.clock.wall()

    def moment(self) -> tuple[int, int]:
        return self.at

    def limit_of(self) -> dict[str, int]:
        return dict(zip(NAMES, LIMITS, strict=True))

    def step(self) -> str:
        often = ("acquire",) * 5 + ("all",) * 2 + ("time",) * 4
        seldom = ("all_again", "again", "beat", "beat", "release", "release", "abandon", "evict")
        kind = self.random.choice(often + seldom)
        getattr(self, f"do_{kind}")()
        return kind

    def do_time(self) -> None:
        self.clock.advance(self.random.choice((0.001, 0.5, 1, 1, 2, 5, 61)))

    def do_acquire(self) -> None:
        which = self.random.randrange(len(NAMES))
        limit = LIMITS[which] if self.random.random() < 0.9 else 2
        claim = self.make_claim(
            NAMES[which],
            limit=limit,
            permits=self.random.randint(1, limit),
            ttl=self.random.choice((1.0, 3.0, 8.0)),
            waiter_ttl=self.random.choice((0.5, 2.0, 4.0)),
            lock_delay=self.random.choice((0.0, 0.0, 0.0, 1.5)),
        )
        self.claims.append(claim)
        self.ask(claim, queue=self.random.random() < 0.7)

    def do_again(self) -> None:
        if self.claims:
            claim = self.random.choice(self.claims)
            self.ask(claim, queue=claim.owner in self.tickets or self.random.random() < 0.5)

    def ask(self, claim: Claim, *, queue: bool) -> None:
        theirs = Ticket(self.scaled(claim), 0, 0.0, Inbox(self.store.runtime.event())) if queue else None
        expected, _ = self.world.acquire(self.scaled(claim), theirs, 0.0, *self.at)
        if isinstance(expected, SettingsConflict):
            with pytest.raises(SettingsConflict):
                drive(self.store.acquire(claim, queue=queue))
            return
        answer = drive(self.store.acquire(claim, queue=queue))
        if expected is None:
            assert answer is None
        elif isinstance(expected, Grant):
            assert isinstance(answer, Grant)
            assert answer.token == expected.token
            assert answer.confirmed
            self.grants[claim.owner] = answer
            self.tickets.pop(claim.owner, None)
        else:
            assert isinstance(answer, Ticket)
            if claim.owner not in self.tickets or self.tickets[claim.owner][1] is not expected:
                self.tickets[claim.owner] = answer, expected
                self.same_wait(answer.head_expires_in, expected.head_expires_in)

    def do_beat(self) -> None:
        grants = self.random.sample(list(self.grants.values()), min(3, len(self.grants)))
        waiting = self.random.sample(list(self.tickets.values()), min(3, len(self.tickets)))
        for grant in grants:
            self.compare(grant, None)
        for pair in waiting:
            self.compare(None, pair)

    def compare(self, grant: Grant | None, tickets: tuple[Ticket, Ticket] | None) -> None:
        if grant is not None:
            scaled = grant._replace(claim=self.scaled(grant.claim))
            expected, _ = self.world.beat_grant(scaled, 0.0, *self.at)
            (word,) = drive(self.store.beat([grant], [], within=5))
            assert type(word) is type(expected), (word, expected)
            assert isinstance(word, Held | Lost)
            return
        assert tickets is not None
        mine, theirs = tickets
        expected, _ = self.world.beat_ticket(theirs, 0.0, *self.at)
        (word,) = drive(self.store.beat([], [mine], within=5))
        assert type(word) is type(expected), (word, expected)
        if isinstance(word, Grant) and isinstance(expected, Grant):
            assert word.token == expected.token
            self.grants[mine.claim.owner] = word
            del self.tickets[mine.claim.owner]
        elif isinstance(word, Gone):
            del self.tickets[mine.claim.owner]
        elif isinstance(word, Waiting) and isinstance(expected, Waiting):
            self.same_wait(word.head_expires_in, expected.head_expires_in)

    def do_release(self) -> None:
        if self.grants:
            grant = self.random.choice(list(self.grants.values()))
            expected, _ = self.world.release(grant._replace(claim=self.scaled(grant.claim)), *self.at)
            assert drive(self.store.release(grant)) == expected

    def do_abandon(self) -> None:
        if self.claims:
            claim = self.random.choice(self.claims)
            tombstone = self.random.random() < 0.3
            self.world.abandon(self.scaled(claim), tombstone, *self.at)
            drive(self.store.abandon(claim, tombstone=tombstone))

    def do_evict(self) -> None:
        if self.grants:
            grant = self.random.choice(list(self.grants.values()))
            expected, _ = self.world.evict(grant.claim.key, grant.token, *self.at)
            assert drive(self.store.evict(grant.claim.name, grant.token)) == expected

    def same_wait(self, mine: float | None, theirs: float | None) -> None:
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert round(mine * MICROS) == theirs

    def check(self) -> None:
        now = self.clock.now()
        for name in NAMES:
            key = self.make_claim(name).key
            mine = drive(self.store.inspect(name))
            theirs = self.world.inspect(key, name, now)
            assert mine.limit == theirs.limit
            assert mine.token == theirs.token
            assert round(mine.closed_for * MICROS) == theirs.closed_for
            assert {(h.owner, h.token, h.permits, round(h.expires_in * MICROS)) for h in mine.holders} == {
                (h.owner, h.token, h.permits, h.expires_in) for h in theirs.holders
            }
            assert [(w.owner, w.permits) for w in mine.waiters] == [(w.owner, w.permits) for w in theirs.waiters]
        live = {name for name in NAMES if drive(self.store.inspect(name)).limit is not None}
        assert set(drive(self.store.names("")).names) == live


@pytest.mark.parametrize("seed", range(40))
def test_random_steps_agree_with_the_specification(
    seed: int, open_store: Any, clock: Any, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_world, "TOMBSTONE", memory_world.TOMBSTONE * MICROS)
    pair = Pair(open_store(clock=clock), clock, seed, claim)
    done = []
    for _ in range(150):
        done.append(pair.step())
        pair.check()
    assert {"acquire", "all", "beat", "release", "time"} <= set(done)
