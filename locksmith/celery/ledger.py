"""Who has a key: entries in cells, changed by compare-and-set alone, and workers that say that they live.

An entry outlives everybody who wrote it, so a key is free again in two ways only: its owner gives it back, or the
evidence says that its owner can no longer run. A queued call is in the broker's hands, where nobody can ask; it keeps
its key until it was run or thrown away. A running call keeps it while its worker beats and lists it.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from locksmith.celery.entries import Entry, Presence
from locksmith.celery.folds import KEPT, Folds, added, counts
from locksmith.celery.honouring import Theirs
from locksmith.client import Client
from locksmith.errors import CellConflict
from locksmith.recipes import places
from locksmith.recipes.needs import require
from locksmith.runtime import drive
from locksmith.store import ABSENT, ANY, Expect, Guarantee

FRESH: Final = 5.0
"""Seconds for which a worker's word is believed without asking again, at most. It delays taking over, nothing else."""

BURIED: Final = 7 * 86400.0
"""Seconds for which a replaced call is remembered: its message comes within a week, or runs."""


class Place:
    """Where an entry lies: of a key, either "queue" (published calls) or "run" (running ones)."""

    __slots__ = ("cell", "key", "what")

    def __init__(self, key: str, what: str) -> None:
        self.key = key
        self.what = what
        self.cell = places.of_task(key, what)

    @property
    def tells_key(self) -> bool:
        """Whether the key can be read off the cell's name."""
        return places.of_tasks(self.cell) == (self.what, self.key)


class Ledger:
    """The entries of one store. Made per process; all its methods raise StoreError where the store cannot be asked."""

    def __init__(self, client: Client, me: Callable[[], str | None], fresh: float = FRESH) -> None:
        require(client._engine.store, Guarantee.CELLS, "locksmith.celery")
        self._engine = client._engine
        self._me = me
        self._fresh = min(fresh, FRESH)
        self._seen: dict[str, tuple[float, Presence]] = {}
        self._here: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._theirs: Theirs | None = None
        self.folds = Folds(self.add_folds)

    def read(self, place: Place) -> Entry | None:
        """The entry of a key."""
        self._engine.refuse_unusable()
        cell = drive(self._engine.store.get(place.cell))
        return None if cell is None else Entry.load(cell.value, cell.version, place.key)

    def write(self, place: Place, entry: Entry, over: Entry | None, ttl: float | None = None) -> Entry:
        """Put an entry where `over` is (None: nothing). Raises CellConflict where that has changed."""
        self._engine.refuse_unusable()
        expect: int | Expect = ABSENT if over is None else over.version
        kept = None if ttl is None else max(ttl, self._engine.store.min_ttl)
        if not place.tells_key:
            entry = replace(entry, key=place.key)
        return replace(entry, version=drive(self._engine.store.put(place.cell, entry.dump(), expect=expect, ttl=kept)))

    def held(self) -> Iterator[tuple[Place, Entry]]:
        """All entries of all keys, in no order. Raises GuaranteeMissing where the store cannot list."""
        for name in itertools.chain(self._cells("queue"), self._cells("run:")):
            what, key = places.of_tasks(name) or ("", None)
            cell = drive(self._engine.store.get(name))
            entry = None if cell is None else Entry.load(cell.value, cell.version, key or name)
            if entry is not None and (known := key or entry.key) is not None:
                yield Place(known, what), entry

    def _cells(self, what: str) -> Iterator[str]:
        after = None
        while True:
            self._engine.refuse_unusable()
            page = drive(self._engine.store.cells(places.TASKS + what, after))
            yield from page.names
            if (after := page.next) is None:
                return

    def erase(self, place: Place, entry: Entry) -> bool:
        """Delete this very entry; False where it has changed since it was read or written."""
        self._engine.refuse_unusable()
        try:
            erased = drive(self._engine.store.delete(place.cell, expect=entry.version))
        except CellConflict:
            return False
        if entry.theirs is not None:
            self.theirs.give(entry.theirs, entry.id)
        return erased

    @property
    def theirs(self) -> Theirs:
        """The locks of celery-singleton. Raises ConfigurationError where the store is none of its."""
        if self._theirs is None:
            self._theirs = Theirs(self._engine.store)
        return self._theirs

    def erase_of(self, place: Place, task_id: str, *, begun: bool = True, by: str | None = None) -> bool:
        """Delete whatever entry this call has; False where it has none.

        `begun` false: unless it runs. `by`: if it runs, then only if that process has begun it.
        """
        while True:
            entry = self.read(place)
            if entry is None or entry.id != task_id:
                return False
            if entry.state == "running" and (not begun or by not in (None, entry.by)):
                return False
            if self.erase(place, entry):
                return True

    def requeue(self, place: Place, task_id: str, as_queued: Callable[[], Entry]) -> None:
        """Make the entry of a running call a queued one: the broker is about to deliver it again."""
        while True:
            entry = self.read(place)
            if entry is None or entry.id != task_id or entry.state != "running":
                return
            with suppress(CellConflict):
                self.write(place, replace(as_queued(), theirs=entry.theirs), entry)
                return

    # Duplicates.

    def folded(self, place: Place, entry: Entry) -> int:
        """How many calls have been folded into this one, as far as all processes have told yet."""
        self._engine.refuse_unusable()
        cell = drive(self._engine.store.get(places.of_task(place.key, "folded")))
        return 0 if cell is None else counts(cell.value).get(entry.id, 0)

    def add_folds(self, key: str, told: Mapping[str, int]) -> None:
        """Add to how many calls were folded into calls of this key, by task id."""
        cell = places.of_task(key, "folded")
        while True:
            self._engine.refuse_unusable()
            found = drive(self._engine.store.get(cell))
            merged = added(None if found is None else found.value, told)
            expect: int | Expect = ABSENT if found is None else found.version
            with suppress(CellConflict):
                drive(self._engine.store.put(cell, merged, expect=expect, ttl=max(KEPT, self._engine.store.min_ttl)))
                return

    # Calls whose place another one took, while their messages were on their way.

    def bury(self, task_id: str, by: str) -> None:
        """Remember that this call was replaced: its message may come when its key is nobody's any more."""
        self._engine.refuse_unusable()
        drive(self._engine.store.put(places.of_task(task_id, "replaced"), by.encode(), expect=ANY, ttl=BURIED))

    def buried(self, task_id: str) -> str | None:
        """The id of the call that has replaced this one."""
        self._engine.refuse_unusable()
        cell = drive(self._engine.store.get(places.of_task(task_id, "replaced")))
        return None if cell is None else cell.value.decode()

    def is_first(self, task_id: str, copy: str, ttl: float) -> bool:
        """Whether no other copy of this task's message was seen in the last `ttl` seconds."""
        self._engine.refuse_unusable()
        place = places.of_task(task_id, "fire")
        try:
            drive(self._engine.store.put(place, copy.encode(), expect=ABSENT, ttl=ttl))
        except CellConflict:
            first = drive(self._engine.store.get(place))
            return first is None or first.value == copy.encode()
        return True

    # Whether somebody still runs.

    def is_vacant(self, entry: Entry, *, redelivered: bool = True) -> bool:
        """Whether others may have the key of this entry: its run is over, and it will not be delivered again.

        With `redelivered` false a call that the broker will deliver again does not keep its key until then.
        """
        if entry.state != "running" or not self.is_over(entry):
            return False
        if not entry.late or not redelivered:
            return True
        # A worker that lives acknowledged it, or had made it a queued one. One that died did neither.
        return entry.worker is not None and self.presence(entry.worker) is not None

    def is_over(self, entry: Entry, *, mine: bool = False) -> bool:
        """Whether a running entry's run has ended without giving its key back. Fails closed: no evidence, no.

        `mine`: this process is about to run another delivery of the same call.
        """
        worker = entry.worker
        if worker is None:
            return False
        same = worker == self._me()
        if same and entry.pid == os.getpid():
            return not self.runs_here(entry)
        presence = self.presence(worker)
        if presence is None:
            return True
        if same and mine:
            return not is_alive(entry.pid)  # its worker lists this id because of the delivery that asks
        return presence.ids is not None and presence.at > entry.since and entry.id not in presence.ids

    def runs_here(self, entry: Entry) -> bool:
        """Whether a thread of this process runs it."""
        with self._lock:
            return (entry.id, entry.by) in self._here

    def began(self, entry: Entry) -> None:
        """A thread of this process begins to run it."""
        with self._lock:
            self._here.add((entry.id, entry.by))

    def ended(self, entry: Entry) -> None:
        """It runs here no more."""
        with self._lock:
            self._here.discard((entry.id, entry.by))

    # Workers.

    def presence(self, worker: str) -> Presence | None:
        """What a worker said last, or None where it has been silent for its whole ttl."""
        seen = self._seen.get(worker)
        if seen is not None and time.monotonic() - seen[0] < self._fresh:
            return seen[1]
        self._engine.refuse_unusable()
        cell = drive(self._engine.store.get(places.of_task(worker, "worker")))
        if cell is None:
            self._seen.pop(worker, None)
            return None
        presence = Presence.load(cell.value)
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[worker] = time.monotonic(), presence
        return presence

    def announce(self, worker: str, presence: Presence, ttl: float) -> None:
        """A worker's word."""
        self._engine.refuse_unusable()
        place = places.of_task(worker, "worker")
        drive(self._engine.store.put(place, presence.dump(), expect=ANY, ttl=max(ttl, self._engine.store.min_ttl)))

    def leave(self, worker: str) -> None:
        """A worker's last word: it has ended, and runs nothing."""
        self._engine.refuse_unusable()
        drive(self._engine.store.delete(places.of_task(worker, "worker")))


def is_alive(pid: int) -> bool:
    """Whether a process of this host still runs; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True  # no /proc, or gone this moment: the next look tells
    return state != "Z"
