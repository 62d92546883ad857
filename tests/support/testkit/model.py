"""A store against the executable specification: the same random steps on both, compared after each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from locksmith import memory_world
from locksmith.errors import SettingsConflict
from locksmith.memory_world import NameState, World
from locksmith.runtime import drive
from locksmith.store import Claim, Gone, Grant, Held, Inbox, Lost, Store, Ticket, Waiting

MICROS = 1_000_000
STEPS = 150


class Specification(World):
    """The specification, but for when dead waiters leave the line, which is nobody's business.

    Those of SQL leave the head of it also while the name is closed, and not when the holder of an exclusive name is
    renewed.
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


class Together:
    """The steps about several names at once, for pairs of a store and a specification."""

    store: Store
    world: World
    random: random.Random
    make_claim: Callable[..., Claim]
    claims: list[Claim]
    grants: dict[str, Grant]
    _asked: list[list[Claim]] | None = None

    def scaled(self, claim: Claim) -> Claim:
        return claim._replace(
            ttl=int(claim.ttl * MICROS),
            waiter_ttl=int(claim.waiter_ttl * MICROS),
            lock_delay=int(claim.lock_delay * MICROS),
        )

    def moment(self) -> tuple[int, int]:
        raise NotImplementedError

    def limit_of(self) -> dict[str, int]:
        raise NotImplementedError

    def do_all(self) -> None:
        """Several names at once, mostly those that are exclusive."""
        limits = self.limit_of()
        exclusive = [name for name, limit in limits.items() if limit == 1]
        among = exclusive if self.random.random() < 0.8 else list(limits)
        names = sorted(self.random.sample(among, self.random.randint(1, len(among))))
        ttl, lock_delay = self.random.choice((1.0, 3.0, 8.0)), self.random.choice((0.0, 0.0, 0.0, 1.5))
        claims = [self.make_claim(name, ttl=ttl, waiter_ttl=0.5, lock_delay=lock_delay) for name in names]
        self._asked = [*(self._asked or []), claims]
        self.claims += claims
        self._ask_all(claims)

    def do_all_again(self) -> None:
        if self._asked:
            self._ask_all(self.random.choice(self._asked[-3:]))

    def _ask_all(self, claims: list[Claim]) -> None:
        expected, _ = self.world.acquire_all([self.scaled(claim) for claim in claims], 0.0, *self.moment())
        if isinstance(expected, SettingsConflict):
            with pytest.raises(SettingsConflict) as conflict:
                drive(self.store.acquire_all(claims))
            assert str(conflict.value) == str(expected)
            return
        answer = drive(self.store.acquire_all(claims))
        if expected is None or answer is None:
            assert answer is expected
            return
        assert [grant.claim for grant in answer] == claims
        assert [grant.token for grant in answer] == [grant.token for grant in expected]
        self.grants |= {grant.claim.owner: grant for grant in answer}


class Pair(Together):
    """One blocking store and one specification that are told the same.

    `at` says what time it is by the store's clock and by the one its tokens grow with, in microseconds; `advance` moves
    both by so many seconds.
    """

    def __init__(
        self,
        store: Store,
        make_claim: Callable[..., Claim],
        *,
        seed: int,
        at: Callable[[], tuple[int, int]],
        advance: Callable[[float], None],
        limits: dict[str, int],
    ) -> None:
        self.store, self.make_claim, self.at, self.advance, self.limits = store, make_claim, at, advance, limits
        self.world = Specification()
        self.random = random.Random(seed)
        self.claims: list[Claim] = []
        self.grants: dict[str, Grant] = {}
        self.tickets: dict[str, tuple[Ticket, Ticket]] = {}

    def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All steps, each compared."""
        monkeypatch.setattr(memory_world, "TOMBSTONE", 60 * MICROS)
        done = set()
        for _ in range(STEPS):
            done.add(self.step())
            self.check()
        assert {"acquire", "all", "beat", "release", "time"} <= done

    def moment(self) -> tuple[int, int]:
        return self.at()

    def limit_of(self) -> dict[str, int]:
        return self.limits

    def step(self) -> str:
        often = ("acquire",) * 5 + ("all",) * 2 + ("time",) * 4
        seldom = ("all_again", "again", "beat", "beat", "release", "release", "abandon", "evict")
        kind = self.random.choice(often + seldom)
        getattr(self, f"do_{kind}")()
        return kind

    def do_time(self) -> None:
        self.advance(self.random.choice((0.001, 0.5, 1, 1, 2, 5, 61)))

    def do_acquire(self) -> None:
        name = self.random.choice(list(self.limits))
        limit = self.limits[name] if self.random.random() < 0.9 else 2
        claim = self.make_claim(
            name,
            limit=limit,
            permits=self.random.choice((1, limit, self.random.randint(1, limit))),
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
        expected, _ = self.world.acquire(self.scaled(claim), theirs, 0.0, *self.at())
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
            else:
                assert answer.number == self.tickets[claim.owner][0].number

    def do_beat(self) -> None:
        for grant in self._some(self.grants.values()):
            scaled = grant._replace(claim=self.scaled(grant.claim))
            expected, _ = self.world.beat_grant(scaled, 0.0, *self.at())
            (word,) = drive(self.store.beat([grant], [], within=5))
            assert isinstance(word, Held | Lost)
            assert type(word) is type(expected), (word, expected)
        for mine, theirs in self._some(self.tickets.values()):
            self._beat_ticket(mine, theirs)

    def _beat_ticket(self, mine: Ticket, theirs: Ticket) -> None:
        expected, _ = self.world.beat_ticket(theirs, 0.0, *self.at())
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

    def _some(self, items: Iterable[Any]) -> list[Any]:
        known = list(items)
        return self.random.sample(known, min(3, len(known)))

    def do_release(self) -> None:
        if self.grants:
            grant = self.random.choice(list(self.grants.values()))
            expected, _ = self.world.release(grant._replace(claim=self.scaled(grant.claim)), *self.at())
            assert drive(self.store.release(grant)) == expected

    def do_abandon(self) -> None:
        if self.claims:
            claim = self.random.choice(self.claims)
            tombstone = self.random.random() < 0.3
            self.world.abandon(self.scaled(claim), tombstone, *self.at())
            drive(self.store.abandon(claim, tombstone=tombstone))

    def do_evict(self) -> None:
        if self.grants:
            grant = self.random.choice(list(self.grants.values()))
            expected, _ = self.world.evict(grant.claim.key, grant.token, *self.at())
            assert drive(self.store.evict(grant.claim.name, grant.token)) == expected

    def same_wait(self, mine: float | None, theirs: float | None) -> None:
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert round(mine * MICROS) == theirs

    def check(self) -> None:
        now, _ = self.at()
        live = set()
        for name in self.limits:
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
            if theirs.limit is not None:
                live.add(name)
        assert set(drive(self.store.names("")).names) == live
