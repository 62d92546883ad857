"""Places in an ordered set, as JSON and back: numbers, texts, dates, moments, and keys made of several of them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from locksmith.errors import ConfigurationError


class Walk(Protocol):
    """What is done in chunks: an ordered set that can be walked from any place in it. All places are JSON.

    Chunks follow each other: where one ends the next begins, and nothing lies between them or in two of them.
    """

    @property
    def kind(self) -> str:
        """One word for what places in it are."""

    def plan(self) -> Any:
        """JSON from which `planned` makes the same walk again."""

    def planned(self, plan: Any) -> Walk:
        """The walk as it was planned when the job began. Raises ConfigurationError where that is another kind."""

    def first(self) -> Any:
        """The place at which the first chunk begins."""

    def after(self, place: Any) -> tuple[Any, Any, float] | None:
        """The chunk that begins at a place: its start, its end, and how much of the whole it is. None: nothing left."""

    def total(self) -> float | None:
        """How much the whole is, in the unit of `after`; None where nobody knows."""

    def value(self, place: Any) -> Any:
        """What users see of a place."""

    def items(self, start: Any, end: Any) -> Any:
        """What iterates over everything in a chunk. Raises ConfigurationError where that has no meaning."""


def dump(value: Any) -> Any:
    """A value as JSON. Raises ConfigurationError for a type whose order survives no such journey."""
    if isinstance(value, datetime):
        aware = value.tzinfo is not None
        return {"moment": value.astimezone(UTC).isoformat()} if aware else {"local": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, UUID):
        return {"uuid": str(value)}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, bytes):
        return {"bytes": b64encode(value).decode("ascii")}
    if isinstance(value, list | tuple):
        return [dump(member) for member in value]
    if isinstance(value, int | str | float) and not isinstance(value, bool):
        return value
    raise ConfigurationError(
        f"a job cannot remember a place such as {value!r}: order by numbers, texts, dates, moments, UUIDs or bytes"
    )


def load(told: Any) -> Any:
    """What `dump` was given, with tuples for lists, and moments in UTC. Raises ConfigurationError."""
    if isinstance(told, list):
        return tuple(load(member) for member in told)
    if not isinstance(told, dict):
        return told
    ((kind, text),) = told.items()
    try:
        return _LOADS[kind](text)
    except (KeyError, ValueError, ArithmeticError) as error:
        raise ConfigurationError(f"{told!r} is no place that this version of locksmith knows") from error


_LOADS: dict[str, Any] = {
    "moment": datetime.fromisoformat,
    "local": datetime.fromisoformat,
    "date": date.fromisoformat,
    "uuid": UUID,
    "decimal": Decimal,
    "bytes": b64decode,
}
