"""What Celery users import: `Singleton`, `RateLimited` and `scan`; `chunkify_task` and its chunks."""

from __future__ import annotations

from locksmith.errors import DriverMissing

try:
    import celery as _celery  # noqa: F401
except ImportError as error:  # pragma: no cover - the tests have it
    raise DriverMissing(
        "locksmith.celery needs Celery, which is not installed: pip install 'locksmith[celery]'"
    ) from error

from locksmith.celery import chunk_watch as _chunk_watch  # noqa: F401 - it listens to Celery's signals
from locksmith.celery.chunk_types import BaseChunk, Chunk, ChunkMode, DateChunk, DateTimeChunk, IntChunk
from locksmith.celery.chunking import chunkify_task
from locksmith.celery.clearing import clear_locks
from locksmith.celery.limited import RateLimited, RateLimitedSingleton
from locksmith.celery.scanning import scan
from locksmith.celery.singleton import Singleton
from locksmith.celery.wiring import cover_names, install
from locksmith.errors import DuplicateTaskError

cover_names()

__all__ = [
    "BaseChunk",
    "Chunk",
    "ChunkMode",
    "DateChunk",
    "DateTimeChunk",
    "DuplicateTaskError",
    "IntChunk",
    "RateLimited",
    "RateLimitedSingleton",
    "Singleton",
    "chunkify_task",
    "clear_locks",
    "install",
    "scan",
]
