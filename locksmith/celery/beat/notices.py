"""How people and beats speak through the store: two cells for each schedule, and no Celery in it.

*Orders* are written by people: which entries pause, which are added, who is to hand over. Beats look at them once a
second. The *report* is written by the beat that leads, under the guard of its lease.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from locksmith.client import Client, Lease
from locksmith.errors import CellConflict, ConfigurationError
from locksmith.recipes import places, plain
from locksmith.recipes.needs import require
from locksmith.runtime import drive
from locksmith.store import ABSENT, Guarantee

ELECTION: Final = "beat:"
"""What the name of an election of beats begins with."""
_SHARD: Final = "#"
_TRIES: Final = 50
_REPORTED: Final = 60.0
"""Seconds for which a report is kept; whether it is of the one who leads now, the term in it says."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What people want of a schedule."""

    paused: tuple[str, ...] = ()
    added: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Entries beside those of the configuration."""
    handover: Mapping[str, int] = field(default_factory=dict)
    """For each share of the schedule the term whose leader is to resign."""
    reload: int = 0
    """Counts up: the schedule is to be read anew."""


@dataclass(frozen=True, slots=True)
class Report:
    """How the leader of a share is doing."""

    term: int
    name: str
    at: float
    """When it was written, in seconds since 1970 by the beat's clock."""
    entries: int
    sent: int
    """Fires sent since this beat began to lead."""
    lag: float
    """Seconds by which the latest of the last fires was late."""
    shards: int = 1
    """How many shares there are."""
    open: int = 0
    """Entries with fires that the broker has not taken yet."""
    due: tuple[tuple[float, str], ...] = ()
    """What is due next, and when."""


def election_of(schedule: str, shard: int, shards: int) -> str:
    """The name of the election of a share."""
    return f"{ELECTION}{schedule}" + (f"{_SHARD}{shard}" if shards > 1 else "")


def share_of(election: str) -> tuple[str, int]:
    """The schedule, and the share, of an election."""
    schedule, sharp, shard = election.removeprefix(ELECTION).rpartition(_SHARD)
    return (schedule, int(shard)) if sharp and shard.isdecimal() else (election.removeprefix(ELECTION), 0)


class Notices:
    """Both cells of one schedule. All methods raise StoreError."""

    def __init__(self, client: Client, schedule: str) -> None:
        require(client._engine.store, Guarantee.CELLS, "a beat")
        self._engine = client._engine
        self._schedule = schedule

    def orders(self) -> tuple[Orders, int]:
        """What is wanted, and the version of that (0: nobody has ever wanted anything)."""
        told, version = self._read("orders")
        return (_orders(told) if told else Orders()), version

    def order(self, change: Callable[[Orders], Orders]) -> Orders:
        """Want something else. `change` may be called several times. Raises ConfigurationError, CellTooLarge."""
        for _ in range(_TRIES):
            orders, version = self.orders()
            wanted = change(orders)
            raw = plain.check_size(plain.dump({**asdict(wanted), "paused": list(wanted.paused)}))
            try:
                drive(self._engine.store.put(self._place("orders"), raw, expect=version or ABSENT))
            except CellConflict:
                continue
            return wanted
        raise ConfigurationError(f"the orders of the schedule {self._schedule!r} change all the time: try again later")

    def report(self, shard: int = 0) -> Report | None:
        """What was reported last of a share."""
        told, _ = self._read(f"report{shard}")
        if not told:
            return None
        return replace(Report(**told), due=tuple((float(at), str(name)) for at, name in told["due"]))

    def tell(self, report: Report, guard: Lease | None, shard: int = 0) -> None:
        """Report of a share. Raises LeaseLost where `guard` is not held any more."""
        self._engine.refuse_unusable()
        raw = plain.check_size(plain.dump({**asdict(report), "due": [list(each) for each in report.due]}))
        grant = None if guard is None else guard._hold.grant
        drive(self._engine.store.put(self._place(f"report{shard}"), raw, ttl=_REPORTED, guard=grant))

    def _read(self, what: str) -> tuple[Any, int]:
        self._engine.refuse_unusable()
        cell = drive(self._engine.store.get(self._place(what)))
        return (None, 0) if cell is None else (plain.load(cell.value, f"the {what} of a schedule"), cell.version)

    def _place(self, what: str) -> str:
        return places.of_beat(self._schedule, what)


def _orders(told: dict[str, Any]) -> Orders:
    return Orders(tuple(told["paused"]), told["added"], told["handover"], int(told["reload"]))
