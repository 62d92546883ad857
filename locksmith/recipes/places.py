"""Where the recipes keep their cells: all cells of a namespace share one space of names, and none may meet another.

A user's cell lies under `cell:NAME`, an election's under `election:NAME`, what `locksmith run NAME` is told and tells
under `run:orders:NAME` and `run:report:NAME`, what is known of Celery tasks and workers under `task:`, of chunked jobs
under `chunks:`, and what beats know of a schedule under `beat:`. Completion records lie under the very name that they
are about, so that a cluster keeps both on one node; a name that begins like one of the others is put aside, under
`record:NAME`.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from locksmith import names

_BEAT: Final = "beat:"
_CELL: Final = "cell:"
_CHUNKS: Final = "chunks:"
_ELECTION: Final = "election:"
_RECORD: Final = "record:"
_RUN: Final = "run:"
_TASK: Final = "task:"
TASKS: Final = _TASK
"""What all places of `of_task` begin with."""
_SHORTENED: Final = "~sha256:"


def of_cell(name: str) -> str:
    """Where a user's cell lies. Raises InvalidName."""
    return _under(_CELL, name)


def of_election(name: str) -> str:
    """Where an election keeps what its leader announced. Raises InvalidName."""
    return _under(_ELECTION, name)


def of_run(name: str, what: str) -> str:
    """Where a supervised name keeps its "orders" or its "report". Raises InvalidName."""
    return _under(f"{_RUN}{what}:", name)


@lru_cache(maxsize=4096)
def of_task(name: str, what: str) -> str:
    """Where a Celery task's key has its "queue" or its "run", a worker its "worker", a task id its "fire" or "slot".

    All of them can be listed: what would be too long for that is shortened, and says so in the cell. Raises
    InvalidName.
    """
    place = _under(f"{_TASK}{what}:", name)
    return place if names.decode(names.encode(place)) is not None else _shortened(f"{_TASK}{what}:", name)


def of_tasks(place: str) -> tuple[str, str | None] | None:
    """What a place that `of_task` gave is about, and the name; None for the name where it was shortened."""
    kind, _, rest = place.partition(":")
    what, _, name = rest.partition(":")
    if kind + ":" != TASKS or not name:
        return None
    return what, None if name.startswith(_SHORTENED) else name


def of_beat(schedule: str, what: str) -> str:
    """Where the beats of a schedule keep one of their pages. Raises InvalidName."""
    return _under(f"{_BEAT}{what}:", schedule)


def of_chunks(name: str, what: str = "job") -> str:
    """What a chunked job has: its cell ("job"), its lanes' names, and the list of all jobs. Raises InvalidName."""
    return _under(f"{_CHUNKS}{what}:", name)


def of_record(name: str) -> str:
    """Where the completion record of a name lies. Raises InvalidName."""
    kinds = (_BEAT, _CELL, _CHUNKS, _ELECTION, _RECORD, _RUN, _TASK)
    return _under(_RECORD, name) if name.startswith(kinds) else name


def _under(kind: str, name: str) -> str:
    names.encode(name)
    raw = name.encode("utf-8", "surrogatepass")
    # What merely looks shortened is shortened too, or somebody could choose a short name to meet a long one.
    if len(kind) + len(raw) > names.MAX_BYTES or name.startswith(_SHORTENED):
        return _shortened(kind, name)
    return kind + name


def _shortened(kind: str, name: str) -> str:
    return f"{kind}{_SHORTENED}{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
