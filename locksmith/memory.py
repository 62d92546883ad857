"""memory://, the reference store: complete, in this process alone, and the double that users' tests want.

Exclusion holds between all threads and tasks of one process. All clients of the same URL share one world
(``memory://`` and ``memory://anything`` are different ones); it lives as long as the process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Self, TypeVar

from locksmith import names, pacing
from locksmith.errors import CellConflict, CellTooLarge, ConfigurationError, LeaseLost, SettingsConflict
from locksmith.memory_world import Handover, World
from locksmith.pacing import Rate, Slot
from locksmith.runtime import Clock, Runtime
from locksmith.store import (
    ANY,
    MAX_CELL_BYTES,
    Cell,
    Claim,
    Expect,
    Grant,
    Guarantee,
    Inbox,
    Inspection,
    Page,
    Store,
    Ticket,
    Word,
)

T = TypeVar("T")
_SWEEP_EVERY: Final = 3600.0
_FORGET_EVERY: Final = 60_000_000


class _Shared:
    """One world, its cells, its paces and its lock."""

    def __init__(self, clock: Clock) -> None:
        self.lock = threading.Lock()
        self.world = World()
        self.cells: dict[str, tuple[Cell, float | None]] = {}
        self.last_version = 0
        self.swept_at = 0.0
        self.paces: dict[str, tuple[pacing.State, int]] = {}
        """What is kept of each key, and the microsecond from which on nothing depends on it."""
        self.forgot_at = 0
        # The wall clock jumps, and two clocks never agree: paces are counted on one, shifted once.
        self.shift = _micros() - int(clock.now() * 1e6)

    def forget(self, now: int) -> None:
        """Drop the paces of keys that nobody asks for any more."""
        if now - self.forgot_at > _FORGET_EVERY:
            self.forgot_at = now
            self.paces = {key: pace for key, pace in self.paces.items() if pace[1] > now}


class _Worlds:
    """All worlds of this process."""

    def __init__(self) -> None:
        self._worlds: dict[tuple[str, str, Clock | None], _Shared] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def find(self, url: str, namespace: str, clock: Clock) -> _Shared:
        # A virtual clock makes a world of its own: two clocks cannot judge one lease. The clock itself is the key: an
        # id may come back after its clock is gone, and with it a world that has ended.
        which = clock if clock.call_later is not None else None
        if self._pid != os.getpid():
            self.__init__()  # type: ignore[misc]  # a forked child starts with nothing, and with locks of its own
        with self._lock:
            return self._worlds.setdefault((url, namespace, which), _Shared(clock))


_worlds = _Worlds()


class MemoryStore(Store):
    """The reference store. Assumes nothing but a clock that does not run backwards."""

    guarantees = (
        Guarantee.FENCED
        | Guarantee.FIFO
        | Guarantee.PUSH
        | Guarantee.CLOCK
        | Guarantee.EXACT_TTL
        | Guarantee.LOCK_DELAY
        | Guarantee.CELLS
    )
    one_process = True
    min_ttl = 0.001

    def __init__(self, url: str, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._url = url
        self._attach()

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url. `memory://` and `memory://any-word` are worlds of their own."""
        if not url.startswith("memory://") or "?" in url or "@" in url:
            raise ConfigurationError("write memory:// or memory://some-name, without options")
        return cls(url, runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return self._url

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire."""
        since = self.runtime.clock.now()
        ticket = Ticket(claim, 0, since, Inbox(self.runtime.event())) if queue else None
        reply = self._do(lambda world, now, us: world.acquire(claim, ticket, since, now, us))
        if isinstance(reply, SettingsConflict):
            raise reply
        return reply

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        """See Store.takes_together: always."""
        return True

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        """See Store.acquire_all."""
        since = self.runtime.clock.now()
        reply = self._do(lambda world, now, us: world.acquire_all(claims, since, now, us))
        if isinstance(reply, SettingsConflict):
            raise reply
        return reply

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat."""
        since = self.runtime.clock.now()
        words = [self._do(partial(_beat_grant, grant, since)) for grant in grants]
        return words + [self._do(partial(_beat_ticket, ticket, since)) for ticket in tickets]

    async def release(self, grant: Grant) -> bool:
        """See Store.release."""
        return self._do(lambda world, now, us: world.release(grant, now, us))

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """See Store.abandon."""
        self._do(lambda world, now, us: (None, world.abandon(claim, tombstone, now, us)))

    async def inspect(self, name: str) -> Inspection:
        """See Store.inspect."""
        key = names.encode(name)
        return self._do(lambda world, now, us: (world.inspect(key, name, now), []))

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names; everything on one page."""
        return Page(self._do(lambda world, now, us: (self._live(world, prefix, now), [])))

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict."""
        key = names.encode(name)
        return self._do(lambda world, now, us: world.evict(key, token, now, us))

    async def get(self, key: str) -> Cell | None:
        """See Store.get."""
        with self._shared.lock:
            return self._cell(names.encode(key))

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        """See Store.cells; everything on one page."""
        with self._shared.lock:
            found = [names.decode(where) or "" for where in list(self._shared.cells) if self._cell(where) is not None]
        return Page([name for name in found if name and name.startswith(prefix)])

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        """See Store.put."""
        if len(value) > MAX_CELL_BYTES:
            raise CellTooLarge(f"a cell holds at most {MAX_CELL_BYTES} bytes, this value has {len(value)}")
        where = names.encode(key)
        with self._shared.lock:
            self._check(where, key, expect, guard)
            version = self._shared.last_version = max(self._shared.last_version + 1, _micros())
            ends = None if ttl is None else self.runtime.clock.now() + ttl
            self._shared.cells[where] = (Cell(value, version), ends)
        return version

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        """See Store.delete."""
        where = names.encode(key)
        with self._shared.lock:
            self._check(where, key, expect, guard)
            return self._shared.cells.pop(where, None) is not None

    async def now(self) -> int | None:
        """See Store.now."""
        return _micros()

    async def pace(self, key: str, rates: tuple[Rate, ...], cost: int, *, at_most: float) -> Slot:
        """See Store.pace: by the runtime's clock."""
        where, terms = names.encode(key), pacing.terms(rates, cost)
        shared = self._shared
        with shared.lock:
            now = int(self.runtime.clock.now() * 1e6) + shared.shift
            shared.forget(now)
            found = shared.paces.get(where)
            decision = pacing.decide(found and found[0], now, terms, pacing.nanos(at_most))
            if decision.state is not None:
                shared.paces[where] = decision.state, now + decision.state.lives(terms) // 1000 + 1
        return decision.told(now)

    async def close(self) -> None:
        """See Store.close: the world stays for the others."""

    def after_fork(self) -> None:
        """See Store.after_fork: the child gets a world of its own; what the parent holds is none of its business."""
        self._attach()

    def _attach(self) -> None:
        self._shared = _worlds.find(self._url, self.namespace, self.runtime.clock)

    def _do(self, step: Callable[[World, float, int], tuple[T, list[Handover]]]) -> T:
        with self._shared.lock:
            now = self.runtime.clock.now()
            if now - self._shared.swept_at > _SWEEP_EVERY:
                self._shared.world.sweep(now)
                self._shared.swept_at = now
            reply, handed = step(self._shared.world, now, _micros())
        for ticket, grant in handed:
            ticket.inbox.deliver(grant)
        return reply

    def _live(self, world: World, prefix: str, now: float) -> list[str]:
        found = []
        for state in world.names.values():
            live = [h.grant.claim.name for h in state.holders.values() if h.expires > now]
            live += [waiter.ticket.claim.name for waiter in state.live_line(now)]
            if live and live[0].startswith(prefix):
                found.append(live[0])
        return found

    def _cell(self, where: str) -> Cell | None:
        found = self._shared.cells.get(where)
        if found is None:
            return None
        cell, ends = found
        if ends is not None and ends <= self.runtime.clock.now():
            del self._shared.cells[where]
            return None
        return cell

    def _check(self, where: str, key: str, expect: int | Expect, guard: Grant | None) -> None:
        if guard is not None and not self._shared.world.holds(guard, self.runtime.clock.now()):
            raise LeaseLost(f"{guard.claim.name!r} is not held with token {guard.token} any more")
        cell = self._cell(where)
        found = cell.version if cell else None
        if expect is not ANY and found != (expect if isinstance(expect, int) else None):
            raise CellConflict(f"cell {key!r} is at version {found}, expected {expect}", found=found)


def _beat_grant(grant: Grant, since: float, world: World, now: float, micros: int) -> tuple[Word, list[Handover]]:
    return world.beat_grant(grant, since, now, micros)


def _beat_ticket(ticket: Ticket, since: float, world: World, now: float, micros: int) -> tuple[Word, list[Handover]]:
    return world.beat_ticket(ticket, since, now, micros)


def _micros() -> int:
    return time.time_ns() // 1000
