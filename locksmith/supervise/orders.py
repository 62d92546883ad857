"""How people and supervisors speak through the store: two cells for each name.

*Orders* are written by people, by compare-and-set: each has a number, and each verb keeps its last one, so that none is
overlooked where several come at once. A supervisor obeys those that are newer than itself. `restart` and `handover`
name the fencing token of the holder whom they mean.

The *report* is written by the supervisor that holds the name, under the guard of its lease: what a former one sends
late is refused by the store, and a report counts only while its token is the holder's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Final

from locksmith.client import Client, Lease
from locksmith.errors import CellConflict, ConfigurationError
from locksmith.recipes import places, plain
from locksmith.recipes.needs import require
from locksmith.runtime import drive
from locksmith.store import ABSENT, Guarantee, Store

NEEDS: Final = Guarantee.FENCED | Guarantee.CELLS
_TRIES: Final = 50
_LOOK_EVERY: Final = 2.0
_SLICE: Final = 1.0
"""Seconds after which a wait looks whether it is over."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What people want."""

    number: int = 0
    """Of the last order."""
    paused: bool = False
    stop: int = 0
    restart: tuple[int, int] = (0, 0)
    """The order's number, and the token of the holder that it is for."""
    handover: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Report:
    """What runs."""

    token: int
    phase: str
    host: str
    supervisor: int
    child: int | None
    starts: int
    """How often this holder has started the command."""
    obeyed: int
    """The number of the last order that this holder has seen."""
    command: list[str] = field(default_factory=list)


class Board:
    """The two cells of a name. Raises GuaranteeMissing where the store lacks FENCED or CELLS."""

    def __init__(self, client: Client, name: str) -> None:
        self._engine = client._engine
        self._store = client._engine.store
        require(self._store, NEEDS, "remote control of `locksmith run`")
        self._orders = places.of_run(name, "orders")
        self._report = places.of_run(name, "report")

    def orders(self) -> tuple[Orders, int]:
        """The orders as they are, and the cell's version. Raises StoreError, ClientClosed."""
        self._engine.refuse_unusable()
        cell = drive(self._store.get(self._orders))
        return (_orders(None), 0) if cell is None else (_orders(cell.value), cell.version)

    def give(self, verb: str, token: int) -> Orders:
        """Write an order, for the holder with this token where it is for a holder. Raises StoreError."""
        for _ in range(_TRIES):
            before, version = self.orders()
            after = _ordered(before, verb, token)
            raw = plain.dump({name: getattr(after, name) for name in Orders.__slots__})
            try:
                drive(self._store.put(self._orders, raw, expect=version or ABSENT))
            except CellConflict:
                continue
            return after
        raise CellConflict(f"others gave orders in each of {_TRIES} tries, nothing was ordered: try again")

    def wait_for_orders(self, seen: int, over: threading.Event) -> None:
        """Wait until the orders may no longer be of this version, or `over` is set. Raises StoreError, ClientClosed.

        Where the store does not push cells, two seconds pass: standing by shall cost less than one request a second.
        """
        if type(self._store).changed is Store.changed:
            over.wait(_LOOK_EVERY)
        else:
            drive(self._store.changed(self._orders, seen, _SLICE))

    def report(self) -> tuple[Report | None, int]:
        """What the last holder wrote, and the cell's version. Raises StoreError."""
        cell = drive(self._store.get(self._report))
        if cell is None:
            return None, 0
        told = plain.load(cell.value, f"the cell {self._report!r}")
        try:
            return Report(**told), cell.version
        except TypeError:
            raise ConfigurationError(f"the cell {self._report!r} holds something that no supervisor wrote") from None

    def wait_for_report(self, seen: int, seconds: float) -> None:
        """Wait until the report is no longer of this version, or for so long. Raises StoreError."""
        drive(self._store.changed(self._report, seen, seconds))

    def publish(self, report: Report, lease: Lease) -> None:
        """Write the report. Raises LeaseLost, StoreError."""
        raw = plain.dump({name: getattr(report, name) for name in Report.__slots__})
        drive(self._store.put(self._report, raw, guard=lease._hold.grant))

    def withdraw(self, lease: Lease) -> None:
        """Remove the report, so that whoever watches it looks. Raises LeaseLost, StoreError."""
        drive(self._store.delete(self._report, guard=lease._hold.grant))


def _orders(raw: bytes | None) -> Orders:
    if raw is None:
        return Orders()
    told: dict[str, Any] = plain.load(raw, "the orders' cell")
    try:
        return Orders(**{**told, "restart": tuple(told["restart"]), "handover": tuple(told["handover"])})
    except (TypeError, KeyError):
        raise ConfigurationError("the orders' cell holds something that `locksmith ctl` did not write") from None


def _ordered(before: Orders, verb: str, token: int) -> Orders:
    number = before.number + 1
    words = {name: getattr(before, name) for name in Orders.__slots__} | {"number": number}
    if verb in ("pause", "resume"):
        words["paused"] = verb == "pause"
    elif verb == "stop":
        words["stop"] = number
    else:
        words[verb] = (number, token)
    return Orders(**words)
