"""One process at work on a chunked job: gets chunks, finishes them, takes over those of the dead.

It locks a lane and keeps it from chunk to chunk. A chunk is handed out by compare-and-set on the job's cell, and the
write that finishes it hands out the next one: one request a chunk for a worker that is alone, two where others write
in between. Every write is guarded by the lease of the lane: a process that was paused for longer than that lease can
finish nothing, because whoever has the lane since then began the chunk again, under a higher token.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from locksmith.engine.core import Engine
from locksmith.engine.hold import Hold
from locksmith.engine.lease import give_up
from locksmith.errors import (
    CellConflict,
    ChunkFailed,
    InheritedLease,
    LeaseLost,
    StoreError,
    StoreUnavailable,
)
from locksmith.positions import Walk
from locksmith.recipes import places
from locksmith.recipes.chunk_job import ChunkJob
from locksmith.recipes.chunk_record import Claimed, Record
from locksmith.recipes.permits import Permits, hostname

logger: Final = logging.getLogger("locksmith.chunks")
PATIENCE: Final = 15.0
"""Seconds for which a store that does not answer is asked again."""
TURN: Final = 5.0
"""Seconds in one lane's line before the others are tried again."""
_PAUSE: Final = 0.002
_LONGEST: Final = 0.25


@dataclass(frozen=True, slots=True)
class Rules:
    """How a job is worked on; may differ from process to process, except `most`."""

    most: int = 32
    """Chunks in work at once, in all processes."""
    retries: int = 3
    """How often a chunk whose function raised is begun again, before the job stops."""
    retry_pause: float = 1.0
    """Seconds before the first of these; each one doubles it, up to a minute."""
    ttl: float | None = None
    waits: bool = True
    """Whether to wait for what others have in work, and while the job is paused."""


class Defaults(Protocol):
    """What a client's settings say of names."""

    ttl: float

    def permits(self, name: str, ttl: float | None) -> Permits:
        """A name to be locked."""


class ChunkWorker:
    """Of one walk through one job. All its methods raise StoreError where the store cannot be asked."""

    def __init__(self, defaults: Defaults, job: ChunkJob, walk: Walk, begun: Record, rules: Rules) -> None:
        self.job = job
        self.rules = rules
        self.id = begun.id
        self.walk = walk.planned(begun.plan)
        self.hand: Claimed | None = None
        """The chunk that is in work here."""
        self.hold: Hold | None = None
        self.finished = 0
        """Chunks that this worker has finished."""
        self.lost = 0
        """Chunks that others had taken over before they were finished here."""
        self.last: Record | None = None
        """As it was read or written last."""
        self._defaults = defaults
        self._engine: Engine = job.engine
        self._lane = -1
        self._fresh = False
        self._seen: Record | None = begun
        self._written: Record | None = begun
        self._alone = True
        """Whether nobody else seems to write: then it is not read before it is written."""
        self._trouble: float | None = None
        """Since when the store does not answer."""
        self._watched: dict[int, tuple[int, int, float]] = {}

    # What a caller does: claim, run, and then finish or fail, until there is nothing to claim.

    async def claim(self) -> Claimed | None:
        """A chunk to run; None where none is left, the job is over, or (without `waits`) others have all of them.

        Raises ChunkFailed where the job has stopped.
        """
        while True:
            if self.hand is not None and self._fresh:
                self._fresh = False
                return self.hand
            try:
                record = await self._look()
                if record is None or not await self._may_begin(record):
                    break
                if self.hold is None:
                    if not await self._find_lane(record):
                        break
                elif not await self._succeeds_somebody(record) and not await self._claim(record):
                    break
            except StoreUnavailable:
                await self._bear()
        await self.leave()
        self._seen = None
        return None

    async def _claim(self, record: Record) -> bool:
        """Have a chunk handed out, or find out that it has to be tried again; False where there is none for us."""
        made, chunk = self._handed(record)
        if made is not record:
            return not await self._write(made, chunk) or chunk is not None or made.state == "running"
        # Nothing for this lane, but others have not finished theirs.
        await self.leave()
        return self.rules.waits

    async def finish(self, *, claim: bool) -> None:
        """The chunk in hand is done; `claim`: get the next one with the same write, for `claim()` to return.

        Where it was lost meanwhile, that is logged: whoever took it over does it again.
        """

        def made_of(record: Record) -> tuple[Record, Claimed | None]:
            made = record.without(self._lane, time.time())
            if claim and made.state == "running" and self._suspect(made) is None:
                return self._handed_safely(made)
            return made.settled(time.time()), None

        self.finished += await self._settle(made_of)

    async def failed(self, error: Exception) -> float | None:
        """The function raised: seconds to wait before the next `claim()`; None where the job has stopped."""
        errors = 0 if self.hand is None else self.hand.errors

        def made_of(record: Record) -> tuple[Record, Claimed | None]:
            chunk = record.lanes[self._lane]
            again = chunk.again(chunk.token, here(), time.time(), error=True)
            made = record.begun(self._lane, again)
            if errors < self.rules.retries:
                return made, None
            return made.failed(f"chunk {chunk.number} raised {type(error).__name__}: {error}"[:500]), None

        if not await self._settle(made_of):
            return 0.0
        if errors >= self.rules.retries:
            await self.leave()
            return None
        return min(self.rules.retry_pause * float(2**errors), 60.0)

    async def _settle(self, made_of: Callable[[Record], tuple[Record, Claimed | None]]) -> bool:
        """Write what becomes of the chunk in hand; False where others have it."""
        hand = self.hand
        while hand is not None:
            try:
                if not self._alone and self._seen is self._written:
                    self._seen = None  # somebody else will have written meanwhile
                record = await self._look()
                if record is None:
                    self._take_loss("the job was forgotten, or begun anew")
                    return False
                found = record.lanes.get(self._lane)
                if found is None or found != hand:
                    return self._is_recorded(found, hand)
                if await self._write(*made_of(record)):
                    return True
                if self.hand is None:
                    return False
            except StoreUnavailable:
                await self._bear()
        return False

    def _is_recorded(self, found: Claimed | None, hand: Claimed) -> bool:
        """The lane has something else than what is in hand: a write of ours has got through whose answer was lost?"""
        if self.hold is None or not self.hold.held or (found is not None and found.token != self.hold.grant.token):
            self._take_loss("others had its lane meanwhile")
            return False
        self.hand = None
        if found is not None and found.number != hand.number:
            self.hand, self._fresh = found, True
        return True

    async def leave(self) -> None:
        """Give the lane back. A chunk in hand stays in it, for whoever comes next."""
        hold, self.hold, self.hand, self._fresh = self.hold, None, None, False
        if hold is None:
            return
        try:
            await self._engine.release(hold)
        except InheritedLease:
            raise
        except (StoreError, LeaseLost) as error:
            logger.debug("leaving lane %d of %s: %s", self._lane, self.job.name, error)

    def drop(self) -> None:
        """As `leave`, where nothing can be awaited."""
        hold, self.hold, self.hand, self._fresh = self.hold, None, None, False
        if hold is not None and hold.held:
            give_up(self._engine, hold)

    # Lanes.

    async def _find_lane(self, record: Record) -> bool:
        """Lock a lane, or stand in line for one; False where there is none for us."""
        taken = list(record.lanes)
        free = [] if record.exhausted else [lane for lane in range(self.rules.most) if lane not in record.lanes]
        random.shuffle(taken)
        random.shuffle(free)
        # First those with a chunk in them: if one can be locked, its holder is no more.
        for lane in (*taken, *free):
            if await self._lock(lane, 0.0):
                return True
        self._seen = None
        if self.rules.waits and (taken or not record.exhausted):
            await self._lock(random.choice(taken or list(range(self.rules.most))), TURN)
        return self.rules.waits

    async def _lock(self, lane: int, wait: float) -> bool:
        name = places.of_chunks(self.job.name, f"lane{lane}")
        claim = self._defaults.permits(name, self.rules.ttl).claim(note=None)
        hold = await self._engine.acquire(claim, wait, None)
        if hold is None:
            return False
        self.hold, self._lane, self._seen = hold, lane, None
        return True

    async def _succeeds_somebody(self, record: Record) -> bool:
        """Whether this worker has changed to a lane whose holder is no more."""
        lane = self._suspect(record)
        if lane is None:
            return False
        mine, old = self.hold, self._lane
        self._watched.pop(lane)
        if not await self._lock(lane, 0.0):
            return False
        logger.info("%s: lane %d is taken over", self.job.name, lane)
        found, self.hold, self._lane = (self.hold, self._lane), mine, old
        await self.leave()
        self.hold, self._lane = found
        return True

    def _suspect(self, record: Record) -> int | None:
        """A lane that has had the same chunk for longer than a lease lives unrenewed."""
        now, ttl = self._now(), self._defaults.ttl if self.rules.ttl is None else self.rules.ttl
        for lane in [lane for lane in self._watched if lane not in record.lanes]:
            del self._watched[lane]
        for lane, chunk in record.lanes.items():
            watched = self._watched.get(lane)
            if lane == self._lane and self.hold is not None:
                continue
            if watched is None or watched[:2] != (chunk.number, chunk.token):
                self._watched[lane] = chunk.number, chunk.token, now
            elif now - watched[2] > ttl * 1.5:
                return lane
        return None

    # The record.

    async def _look(self) -> Record | None:
        """The record as we know it: it may be out of date, and then writing says so. None: it is another job's."""
        if self._seen is None:
            self._seen = await self.job.read()
            self._alone = self._seen is not None and self._written is not None and (
                self._seen.version == self._written.version
            )  # fmt: skip
            self._trouble = None
        self.last = self._seen or self.last
        return self._seen if self._seen is not None and self._seen.id == self.id else None

    async def _may_begin(self, record: Record | None) -> bool:
        """Whether chunks are handed out; waits while the job is paused. Raises ChunkFailed."""
        while record is not None and record.state == "paused" and self.rules.waits:
            await self.leave()
            await self.job.changed(record.version, TURN * 6)
            self._seen = None
            record = await self._look()
        if record is not None and record.state == "failed":
            await self.leave()
            raise ChunkFailed(f"the chunked job {self.job.name!r} has stopped: {record.error}")
        return record is not None and record.state == "running"

    def _handed(self, record: Record) -> tuple[Record, Claimed | None]:
        """What claiming makes of the record, and the chunk; the record itself where there is nothing for this lane."""
        assert self.hold is not None  # noqa: S101 - for the type checker
        token, now = self.hold.grant.token, time.time()
        left = record.lanes.get(self._lane)
        if left is not None:
            chunk = left if left.token == token else left.again(token, here(), now)
            return record.begun(self._lane, chunk), chunk
        step = None if record.exhausted else self.walk.after(record.cursor)
        if step is None:
            return (record if record.exhausted else record.drained()).settled(now), None
        chunk = Claimed(record.handed, *step, token, here(), now)
        return record.claimed(self._lane, chunk), chunk

    def _handed_safely(self, record: Record) -> tuple[Record, Claimed | None]:
        try:
            return self._handed(record)
        except Exception as error:  # noqa: BLE001 - it is raised when the next chunk is asked for; this one is done
            logger.debug("the next chunk of %s: %s", self.job.name, error)
            return record, None

    async def _write(self, made: Record, chunk: Claimed | None) -> bool:
        """Write, and have that chunk in hand; False where it has to be looked at again. Raises StoreUnavailable."""
        assert self.hold is not None  # noqa: S101 - for the type checker
        self._seen = None  # until it is written, nobody knows
        try:
            self.hold.check()
            self._seen = self._written = self.last = await self.job.write(made, guard=self.hold.grant)
        except CellConflict:
            await self._engine.runtime.sleep(random.uniform(0, _PAUSE))
            return False
        except InheritedLease:
            raise
        except LeaseLost as error:
            self._take_loss(error)
            return False
        self._trouble = None
        self.hand, self._fresh = chunk, chunk is not None
        return True

    def _take_loss(self, why: object) -> None:
        if self.hand is not None:
            self.lost += 1
            logger.warning(
                "chunk %d of %s is not finished by this process, whoever takes it over does it again: %s",
                self.hand.number, self.job.name, why,
            )  # fmt: skip
        if self.hold is not None and self.hold.held:
            give_up(self._engine, self.hold)
        self.hold, self.hand, self._seen, self._fresh = None, None, None, False

    async def _bear(self) -> None:
        """Called while a StoreUnavailable is handled, which is raised again when it has lasted for too long."""
        now = self._now()
        self._trouble = now if self._trouble is None else self._trouble
        if now - self._trouble >= PATIENCE:
            self._trouble = None
            raise  # noqa: PLE0704 - the one that is being handled
        await self._engine.runtime.sleep(random.uniform(0, _LONGEST))

    def _now(self) -> float:
        return self._engine.runtime.clock.now()


def here() -> str:
    """host:pid of this process, for people."""
    return f"{hostname()}:{os.getpid()}"
