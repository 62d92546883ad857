"""Completion records: what a finished run leaves in the cell of its name, as JSON."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any, Final

from locksmith.errors import ConfigurationError
from locksmith.recipes import places, plain
from locksmith.recipes.needs import require
from locksmith.store import MAX_CELL_BYTES, Guarantee, Store

FORMAT: Final = 1
MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Record:
    """A run that completed."""

    version: int
    """Of the cell: another one means another run."""
    window: bool
    """Whether it closes the name for a period (`once_per`); otherwise it only hands a result to those who wait."""
    by: str | None
    """host:pid of the process that ran it."""
    began: float | None
    """Wall clock of that host, for people."""
    result: Any
    """What it returned, as JSON gives it back; MISSING where that was not recorded."""
    why_missing: str | None

    @property
    def age(self) -> float | None:
        """Seconds since the start, for people: the clocks of two hosts may differ."""
        return None if self.began is None else max(0.0, time.time() - self.began)


def require_cells(store: Store) -> None:
    """Raises GuaranteeMissing for a store that cannot keep records."""
    require(store, Guarantee.CELLS, "run_once with once_per= or joining")


async def read(store: Store, key: str) -> Record | None:
    """The record of a name. Raises StoreError; ConfigurationError where its cell holds something else."""
    cell = await store.get(places.of_record(key))
    if cell is None:
        return None
    try:
        told = json.loads(cell.value)
        return Record(
            cell.version,
            bool(told["run_once"] and told["window"]),
            told.get("by"),
            told.get("began"),
            told.get("result", MISSING),
            told.get("why_missing"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigurationError(
            f"the cell {key!r} holds something that run_once did not write: choose another key"
        ) from None


def write(*, window: bool, ran_for: float, result: object = MISSING) -> tuple[bytes, str | None]:
    """A record's bytes, and why the result is not in it, if it is not."""
    told: dict[str, Any] = {
        "run_once": FORMAT,
        "window": window,
        "by": f"{socket.gethostname()}:{os.getpid()}",
        "began": time.time() - ran_for,
    }
    if result is MISSING:
        return _dump(told), None
    try:
        plain.check(result)
        raw = _dump(told | {"result": result})
        why = None if len(raw) <= MAX_CELL_BYTES else f"as JSON it has {len(raw)} bytes, more than {MAX_CELL_BYTES}"
    except (TypeError, ValueError, RecursionError) as error:
        raw, why = b"", str(error)
    return (raw, None) if why is None else (_dump(told | {"why_missing": why}), why)


def _dump(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode("ascii")
