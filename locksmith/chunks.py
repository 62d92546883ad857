"""Chunked jobs: what is done in chunks, one chunk of it, and a job as it is watched and steered.

`@locksmith.chunked` makes one. How it works, and what is promised, is in docs/chunks.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from locksmith.positions import Walk
from locksmith.recipes import chunk_list
from locksmith.recipes.chunk_job import ChunkJob
from locksmith.recipes.chunk_record import Claimed, Record, State
from locksmith.recipes.ranges import dates, datetimes, ints
from locksmith.runtime import drive

if TYPE_CHECKING:
    from locksmith.aio import AsyncClient, AsyncLease
    from locksmith.client import Client, Lease

__all__ = ["AsyncJob", "Chunk", "Job", "Progress", "Walk", "dates", "datetimes", "ints", "jobs"]

T = TypeVar("T")


class Chunk(Generic[T]):
    """One chunk: `start <= place < end`. Iterating over it gives its numbers, days or rows (moments have none)."""

    __slots__ = ("_places", "_walk", "end", "lease", "number", "start", "tries")

    def __init__(self, walk: Walk, claimed: Claimed, lease: Lease | AsyncLease) -> None:
        self._walk = walk
        self._places = claimed.start, claimed.end
        self.start: T = walk.value(claimed.start)
        self.end: T = walk.value(claimed.end)
        self.number = claimed.number
        """Counted from 0, in the order of the range."""
        self.tries = claimed.tries
        """How often it was begun, this time included: above 1 somebody else may have done a part of it."""
        self.lease: Any = lease
        """What it is held under; `guard(session, chunk.lease)` refuses the late writes of whoever had it before."""

    @property
    def token(self) -> int:
        """The fencing token: higher than that of whoever had this chunk before."""
        token: int = self.lease.token
        return token

    def __iter__(self) -> Iterator[Any]:
        return iter(self._walk.items(*self._places))

    def __contains__(self, place: Any) -> bool:
        return bool(self.start <= place < self.end)

    def __repr__(self) -> str:
        return f"<Chunk {self.number}: {self.start!r} to {self.end!r}>"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    name: str
    state: State
    """running, paused, failed (a chunk has failed too often), cancelled or done."""
    done: int
    """Chunks that are finished."""
    running: int
    """Chunks that were begun and are not finished, also those of processes that crashed."""
    finished: float
    """How much of `total` is finished: numbers, rows, or seconds of a range of days or moments."""
    total: float | None
    fraction: float | None
    """From 0 to 1; None where nobody knows how much there is."""
    left: float | None
    """Seconds until the end, at the pace of the last minute; None where nobody can tell."""
    began: float
    """Seconds since 1970, by the clock of the host that began it; so is `ended`."""
    ended: float | None
    error: str | None
    here: int = 0
    """Chunks that this call has finished."""

    @staticmethod
    def of(name: str, record: Record, here: int = 0) -> Progress:
        """What a record says."""
        return Progress(
            name, record.state, record.done, len(record.lanes), record.finished, record.total, record.fraction,
            record.left(time.time()), record.began, record.ended, record.error, here,
        )  # fmt: skip


class Job:
    """A chunked job by name, to be watched and steered. All methods raise StoreError if the store cannot be asked."""

    def __init__(self, client: Client, name: str) -> None:
        """Raises GuaranteeMissing where the store lacks CELLS or FENCED, InvalidName; sends nothing."""
        self._job = ChunkJob(client._engine, name)
        self.name = name

    def progress(self) -> Progress | None:
        """How far it is; None where it was never begun, or was forgotten."""
        return _told(self.name, drive(self._job.read()))

    def pause(self) -> Progress | None:
        """Have no chunk begun any more, until `resume`; those in work are finished. Processes that work on it wait."""
        return _told(self.name, drive(self._job.pause()))

    def resume(self) -> Progress | None:
        """Go on after a pause, or after a chunk has failed too often."""
        return _told(self.name, drive(self._job.resume()))

    def cancel(self) -> Progress | None:
        """Have no chunk begun any more, for good; those in work are finished."""
        return _told(self.name, drive(self._job.cancel()))

    def forget(self) -> bool:
        """Delete what is known of a job that is done or cancelled, so that it can begin anew; False: there is nothing.

        Raises ConfigurationError for a job that is neither.
        """
        return drive(self._job.forget())


class AsyncJob:
    """As `Job`, for asyncio."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        """Raises GuaranteeMissing where the store lacks CELLS or FENCED, InvalidName; sends nothing."""
        self._job = ChunkJob(client._engine, name)
        self.name = name

    async def progress(self) -> Progress | None:
        """See Job.progress."""
        return _told(self.name, await self._job.read())

    async def pause(self) -> Progress | None:
        """See Job.pause."""
        return _told(self.name, await self._job.pause())

    async def resume(self) -> Progress | None:
        """See Job.resume."""
        return _told(self.name, await self._job.resume())

    async def cancel(self) -> Progress | None:
        """See Job.cancel."""
        return _told(self.name, await self._job.cancel())

    async def forget(self) -> bool:
        """See Job.forget."""
        return await self._job.forget()


def jobs(client: Client, prefix: str = "") -> Mapping[str, Progress]:
    """The chunked jobs of a store that are remembered, by name. Raises StoreError."""
    found = {name: Job(client, name).progress() for name in drive(chunk_list.names(client._engine))
             if name.startswith(prefix)}  # fmt: skip
    return {name: progress for name, progress in found.items() if progress is not None}


def _told(name: str, record: Record | None) -> Progress | None:
    return None if record is None else Progress.of(name, record)
