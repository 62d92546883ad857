"""What a store knows of a name, as plain data: the same for every command that shows names."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from locksmith.client import Client
from locksmith.recipes.permits import ALL
from locksmith.store import HolderView, Inspection, WaiterView


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has permits. Durations are seconds; `since` is their beginning by this machine's clock."""

    token: int
    permits: int
    mode: str | None
    since: str
    held_for: float
    remaining: float
    host: str | None
    pid: int | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who stands in line."""

    permits: int
    mode: str | None
    since: str
    waited_for: float
    host: str | None
    pid: int | None
    note: str | None
    owner: str


@dataclass(frozen=True, slots=True)
class Record:
    """A name, its holders and its line."""

    name: str
    limit: int | None
    token: int
    closed_for: float
    holders: list[Holder] = field(default_factory=list)
    waiters: list[Waiter] = field(default_factory=list)

    @property
    def used(self) -> bool:
        """Whether anybody holds the name, waits for it, or has to."""
        return bool(self.holders or self.waiters or self.closed_for > 0)

    @property
    def what(self) -> str:
        """The kind of thing this name is now, as far as its limit tells."""
        if self.limit is None:
            return "-"
        return {1: "lock", ALL: "rwlock"}.get(self.limit, f"semaphore of {self.limit}")

    @property
    def shape(self) -> object:
        """What changes when something happens, and not by itself: who holds and who waits, in order."""
        return (
            [(holder.token, holder.permits) for holder in self.holders],
            [waiter.owner for waiter in self.waiters],
            self.closed_for > 0,
        )

    def as_json(self) -> dict[str, Any]:
        """For `--json`. Without the owners: who knows one could speak for it."""
        facts = asdict(self)
        for waiter in facts["waiters"]:
            del waiter["owner"]
        return facts


def read(client: Client, name: str) -> Record:
    """What the store knows of one name now. Raises StoreError."""
    return _record(client.inspect(name))


def read_all(client: Client, prefix: str) -> Iterator[Record]:
    """The names in use that begin with `prefix`, sorted. Raises StoreError."""
    # Sorted before they are looked at, so that a long listing begins to appear in its final order.
    for name in sorted(set(client.names(prefix))):
        record = read(client, name)
        if record.used:  # it may have been given back since it was listed
            yield record


def _record(seen: Inspection) -> Record:
    return Record(
        seen.name,
        seen.limit,
        seen.token,
        round(seen.closed_for, 3),
        [_holder(holder, seen.limit) for holder in seen.holders],
        [_waiter(waiter, seen.limit) for waiter in seen.waiters],
    )


def _holder(seen: HolderView, limit: int | None) -> Holder:
    host, pid, note = _person(seen.info)
    mode = _mode(seen.permits, limit)
    left = round(max(0.0, seen.expires_in), 3)
    return Holder(seen.token, seen.permits, mode, _when(seen.since), round(seen.since, 3), left, host, pid, note)


def _waiter(seen: WaiterView, limit: int | None) -> Waiter:
    host, pid, note = _person(seen.info)
    mode = _mode(seen.permits, limit)
    return Waiter(seen.permits, mode, _when(seen.since), round(seen.since, 3), host, pid, note, seen.owner)


def _mode(permits: int, limit: int | None) -> str | None:
    if limit != ALL:
        return None
    return "write" if permits == ALL else "read"


def _when(ago: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=ago)
    return moment.isoformat(timespec="milliseconds")


def _person(info: str) -> tuple[str | None, int | None, str | None]:
    """Host, pid and note. Other programs may write there too: what is not as expected is shown as a note."""
    try:
        facts = json.loads(info)
    except ValueError:
        return None, None, info or None
    if not isinstance(facts, dict):
        return None, None, info
    host, pid, note = facts.get("host"), facts.get("pid"), facts.get("note")
    return (
        host if isinstance(host, str) else None,
        pid if isinstance(pid, int) else None,
        note if isinstance(note, str) else None,
    )
