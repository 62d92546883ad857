"""Lua against the executable specification: the same random steps on both, compared after each of them.

Time is a hash on the server that the test moves: in these runs only, the scripts' one call of TIME reads it.
"""

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
from locksmith.testing.servers import RedisServer
from locksmith_redis import RedisStore, scripts
from locksmith_redis import store as store_module
from locksmith_redis.scripts import Script

pytestmark = pytest.mark.redis

MICROS = 1_000_000
NAMES = ("a", "b", "c" * 300, "d")
LIMITS = (1, 1, 3, 2**20)
CLOCK = "{redis.call('HGET', 'clock', 's'), redis.call('HGET', 'clock', 'u')}"


class Specification(World):
    """The specification, but for when dead waiters leave the line, which is nobody's business.

    Ours leave the head of it also while the name is closed.
    """

    def settle(self, state: NameState, now: float, micros: int) -> list[tuple[Ticket, Grant]]:
        handed = super().settle(state, now, micros)
        while state.line and (head := next(iter(state.line.values()))).expires <= now:
            del state.line[head.ticket.claim.owner]
        return handed


class Clock:
    """The server's time, moved by hand."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.micros = 1_700_000_000_000_000
        self.advance(0)

    def advance(self, seconds: float) -> None:
        self.micros += round(seconds * MICROS)
        self._server.command("HSET", "clock", "s", self.micros // MICROS, "u", self.micros % MICROS)


class Pair(Together):
    """One store and one specification that are told the same."""

    def __init__(self, store: RedisStore, clock: Clock, seed: int, make_claim: Callable[..., Claim]) -> None:
        self.store, self.clock, self.make_claim = store, clock, make_claim
        self.world = Specification()
        self.random = random.Random(seed)
        self.claims: list[Claim] = []
        self.grants: dict[str, Grant] = {}
        self.tickets: dict[str, tuple[Ticket, Ticket]] = {}

    @property
    def at(self) -> tuple[int, int]:
        return self.clock.micros, self.clock.micros

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
            else:
                assert answer.number == self.tickets[claim.owner][0].number

    def do_beat(self) -> None:
        grants = self.random.sample(list(self.grants.values()), min(3, len(self.grants)))
        waiting = self.random.sample(list(self.tickets.values()), min(3, len(self.tickets)))
        said = [
            self.world.beat_grant(grant._replace(claim=self.scaled(grant.claim)), 0.0, *self.at)[0] for grant in grants
        ]
        said += [self.world.beat_ticket(theirs, 0.0, *self.at)[0] for _, theirs in waiting]
        words = drive(self.store.beat(grants, [mine for mine, _ in waiting], within=5))
        assert [type(word) for word in words] == [type(word) for word in said]
        assert all(isinstance(word, Held | Lost) for word in words[: len(grants)])
        for (mine, _), word, expected in zip(waiting, words[len(grants) :], said[len(grants) :], strict=True):
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
            if claim.key in self.world.names:
                # Ours end what is due before they undo, so that a lock_delay is not escaped by undoing.
                self.world.settle(self.world.names[claim.key], *self.at)
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
        now = self.clock.micros
        live = set()
        for name in NAMES:
            key = self.make_claim(name).key
            mine = drive(self.store.inspect(name))
            theirs = self.world.inspect(key, name, now)
            assert mine.limit == theirs.limit
            assert mine.token == theirs.token
            state = self.world.names.get(key)
            if state is None or all(holder.expires > now for holder in state.holders.values()):
                assert round(mine.closed_for * MICROS) == theirs.closed_for
            assert {(h.owner, h.token, h.permits, round(h.expires_in * MICROS)) for h in mine.holders} == {
                (h.owner, h.token, h.permits, h.expires_in) for h in theirs.holders
            }
            assert [(w.owner, w.permits) for w in mine.waiters] == [(w.owner, w.permits) for w in theirs.waiters]
            if theirs.limit is not None:
                live.add(name)
        assert self._listed() == live

    def _listed(self) -> set[str]:
        """All pages: what other tests left on this server may fill the first ones."""
        page = drive(self.store.names(""))
        found = set(page.names)
        while page.next is not None:
            page = drive(self.store.names("", page.next))
            found.update(page.names)
        return found


@pytest.fixture
def by_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts that ask the test what time it is."""
    several = {number: scripts.acquiring.__wrapped__(number) for number in range(1, len(NAMES) + 1)}
    monkeypatch.setattr(store_module, "acquiring", several.__getitem__)
    alone = [getattr(scripts, name) for name in ("ACQUIRE", "RELEASE", "BEAT", "ABANDON", "EVICT", "INSPECT", "LIVE")]
    script: Script
    for script in [*alone, *several.values()]:
        source = script.source.decode()
        assert source.count("redis.call('TIME')") == 1, source
        words = int(script.by_sha[1 : script.by_sha.index(b"\r")]) - 2
        monkeypatch.setattr(script, "source", source.replace("redis.call('TIME')", CLOCK).encode())
        monkeypatch.setattr(script, "sha", b"0" * 40)  # never found, so the source is sent
        monkeypatch.setattr(script, "by_sha", script.head(words))
        monkeypatch.setattr(script, "by_source", script.head(words, source=True))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.usefixtures("by_clock")
def test_random_steps_agree_with_the_specification(
    seed: int, blocking: Any, redis_server: RedisServer, namespace: str, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1, P2, P5, P7 and the rules of locksmith.store, for locks, semaphores and read-write locks together."""
    monkeypatch.setattr(memory_world, "TOMBSTONE", memory_world.TOMBSTONE * MICROS)
    pair = Pair(blocking.store(redis_server.url, namespace), Clock(redis_server), seed, claim)
    done = []
    for _ in range(150):
        done.append(pair.step())
        pair.check()
    assert {"acquire", "all", "beat", "release", "time"} <= set(done)
