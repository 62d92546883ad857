"""Values as JSON: what comes back is what went in, or it is refused before anything is sent."""

from __future__ import annotations

import json
from typing import Any

from locksmith.errors import CellTooLarge, ConfigurationError
from locksmith.store import MAX_CELL_BYTES


def dump(value: object) -> bytes:
    """A value's JSON. Raises ConfigurationError for what JSON cannot express."""
    try:
        check(value)
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"this value has no form in JSON, nothing was sent: {error}") from error


def load(raw: bytes, what: str) -> Any:
    """The value of a cell. Raises ConfigurationError where the cell holds no JSON."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{what} holds something else than JSON: {error}") from error


def check(value: object) -> None:
    """Raises TypeError for what json.dumps would refuse, or would quietly turn into something else."""
    # The key 1 would become "1": whoever reads it would get another dict than was written.
    if isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str):
                raise TypeError(f"JSON has no dict with the key {key!r}: make it text")
            check(member)
    elif isinstance(value, list | tuple):
        for member in value:
            check(member)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise TypeError(f"JSON has no {type(value).__name__}")


def check_size(raw: bytes) -> bytes:
    """Raises CellTooLarge for what does not fit into a cell."""
    if len(raw) > MAX_CELL_BYTES:
        raise CellTooLarge(f"a cell holds at most {MAX_CELL_BYTES} bytes, this value has {len(raw)}: nothing was sent")
    return raw
