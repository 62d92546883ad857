"""In a worker's parent process: a heart that beats for the calls of this worker, and gives back the keys of lost ones.

It lives in the parent because that survives its children, hears of every task that ended without running to its end
(killed, timed out, revoked, expired), and knows at each moment which calls it has.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from celery import bootsteps, signals
from celery.worker import state

from locksmith.celery import incarnation
from locksmith.celery.entries import Presence, here, host_clock
from locksmith.celery.ledger import Ledger, Place, is_alive
from locksmith.celery.plan import plan_of
from locksmith.celery.receiving import receive
from locksmith.celery.wiring import Wiring, wiring_of
from locksmith.errors import LocksmithError, StoreError

logger: Final = logging.getLogger("locksmith.celery")
MOST_IDS: Final = 1000
"""Calls that a worker lists; one that has more says only that it lives, and its keys are given back without help."""
_RETRY: Final = 1.0
_LOOK: Final = 0.05
"""Seconds between two looks at a process that was told to end."""
_GOODBYE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Farewell:
    """A call that has ended in this worker, and cannot give its keys back itself."""

    task_id: str
    places: Sequence[Place]
    pid: int | None
    """The process that has begun it, if any: its keys are given back when that is gone, and not before."""

    @property
    def due(self) -> bool:
        """Whether nothing of it can still run."""
        return self.pid in (None, os.getpid()) or not is_alive(self.pid or 0)

    def give_back(self, ledger: Ledger) -> None:
        """Delete its entries; not those of another delivery, which another process has begun."""
        by = None if self.pid is None else here(self.pid)
        for place in self.places:
            ledger.erase_of(place, self.task_id, begun=by is not None, by=by)


class Heart:
    """Beats for one worker, on a thread of its own."""

    def __init__(self, wiring: Wiring, name: str, worker: str, *, forks: bool) -> None:
        self.wiring = wiring
        self.forks = forks
        """Whether calls run in other processes than this one."""
        self.worker = worker
        self._name = name
        self._wake = threading.Event()
        self._stopping = False
        self._farewells: list[Farewell] = []
        self._listed: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Beat once, here, so that no task begins before; then go on beside."""
        pause = self._beat()
        self._thread = threading.Thread(target=self._live, args=(pause,), name="locksmith-celery-heart", daemon=True)
        self._thread.start()

    def farewell(self, farewell: Farewell) -> None:
        """Give the keys of an ended call back, as soon as nothing of it can still run. Returns at once."""
        self._farewells.append(farewell)
        self._wake.set()

    def stop(self) -> None:
        """The worker has ended all its tasks: say so, and stop."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_GOODBYE)
        try:
            self.wiring.ledger().leave(self.worker)
        except StoreError as error:
            logger.debug("this worker could not take its leave, and counts as dead only after its ttl: %s", error)

    def _live(self, pause: float) -> None:
        beat_at = host_clock() + pause
        while not self._stopping:
            left = max(0.0, beat_at - host_clock())
            self._wake.wait(min(left, _LOOK) if self._farewells else left)
            self._wake.clear()
            retry = self._say_farewells()
            if host_clock() >= beat_at:
                beat_at = host_clock() + self._beat()
            if retry:
                self._wake.wait(_RETRY)
        self._say_farewells()

    def _beat(self) -> float:
        """Say that this worker lives; seconds until the next beat."""
        ttl = 60.0
        try:
            ttl = self.wiring.worker_ttl
            # The clock first: a call that begins after it may be missing from the list.
            at, ids = host_clock(), self._ids()
            self.wiring.ledger().announce(self.worker, Presence(self._name, here(), at, ids), ttl)
        except StoreError as error:
            logger.warning("this worker could not say that it lives, its calls lose their keys in %s s: %s", ttl, error)
            return min(_RETRY, ttl / 4)
        except Exception as error:  # noqa: BLE001 - a heart that stops beating for anything is worse
            logger.error("Singleton tasks are put off, since this worker cannot say that it lives: %s", error)  # noqa: TRY400 - the sentence says it all
        return ttl / 4

    def _ids(self) -> frozenset[str] | None:
        requests = _requests()
        if requests is None:
            return None
        now = frozenset(request.id for request in requests if plan_of(request.task) is not None)
        leaving = frozenset(farewell.task_id for farewell in tuple(self._farewells))
        # Those of the beat before as well: a request changes from one of Celery's sets to another.
        listed = now | leaving | self._listed
        self._listed = now
        return listed if len(listed) <= MOST_IDS else None

    def _say_farewells(self) -> bool:
        """Give back what is due; whether the store has to be asked again."""
        for farewell in [one for one in tuple(self._farewells) if one.due]:
            try:
                farewell.give_back(self.wiring.ledger())
            except StoreError as error:
                logger.warning("the key of %s is given back later: %s", farewell.task_id, error)
                return True
            except LocksmithError as error:
                logger.warning("the key of %s is not given back: %s", farewell.task_id, error)
            self._farewells.remove(farewell)
        return False


at_work: Final[WeakSet[Any]] = WeakSet()
"""Requests that have not ended. Celery forgets its own list of them when it loses the broker, while they run on."""


def _requests() -> list[Any] | None:
    for _ in range(1000):
        try:
            return [*at_work, *state.reserved_requests, *state.active_requests]
        except RuntimeError:
            continue  # one came while we looked
    return None


_hearts: dict[int, Heart] = {}
"""By process: a forked child has none."""


def heart() -> Heart | None:
    """The heart of this process, where it is a worker's parent."""
    return _hearts.get(os.getpid())


class HeartStep(bootsteps.StartStopStep):
    """Celery starts it with the worker, before it consumes anything."""

    name = "locksmith"

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        # Now, since the pool's children are forked later and are to inherit it.
        self._worker = incarnation.begin()

    def start(self, parent: Any) -> None:
        """The worker starts."""
        receive(parent.app)
        forks = parent.pool_cls.__module__ == "celery.concurrency.prefork"
        begun = _hearts[os.getpid()] = Heart(wiring_of(parent.app), parent.hostname, self._worker, forks=forks)
        begun.start()

    def stop(self, parent: Any) -> None:
        """Not here: the pool may still be waiting for its tasks. See `_worker_ended`."""


@signals.worker_shutdown.connect(weak=False)
def _worker_ended(**_: Any) -> None:
    ended = _hearts.pop(os.getpid(), None)
    if ended is not None:
        ended.stop()
