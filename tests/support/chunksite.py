"""A chunked job and workers on it, all in the thread of a test."""

from __future__ import annotations

import uuid

import locksmith
from locksmith.recipes import places
from locksmith.recipes.chunk_job import ChunkJob
from locksmith.recipes.chunk_record import Record
from locksmith.recipes.chunk_worker import ChunkWorker, Rules
from locksmith.recipes.ranges import ints
from locksmith.runtime import drive


def new() -> str:
    return f"memory://{uuid.uuid4().hex}"


class Site:
    """A job on a store, and workers on it, all in this thread."""

    def __init__(self, client: locksmith.Client, end: int = 10, size: int = 3, **rules: object) -> None:
        self.client = client
        self.job = ChunkJob(client._engine, "job")
        self.walk = ints(0, end, size=size)
        self.rules = Rules(**{"waits": False, "retry_pause": 0.0, **rules})

    def worker(self, client: locksmith.Client | None = None) -> ChunkWorker:
        client = client or self.client
        job = ChunkJob(client._engine, "job")
        return ChunkWorker(client._settings, job, self.walk, drive(job.begin(self.walk)), self.rules)

    def record(self) -> Record:
        found = drive(self.job.read())
        assert found is not None
        return found

    def evict(self, worker: ChunkWorker) -> None:
        """Take its lane from a worker, which does not know yet."""
        name = places.of_chunks("job", f"lane{worker._lane}")
        assert self.client.evict(name, worker.hold.grant.token)


def work(worker: ChunkWorker, *, eager: bool = True) -> list[tuple[int, int]]:
    """Everything it gets, in order, finished."""
    found = []
    while (chunk := drive(worker.claim())) is not None:
        found.append((chunk.start, chunk.end))
        drive(worker.finish(claim=eager))
    return found
