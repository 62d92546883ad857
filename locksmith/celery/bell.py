"""What a scanner waits for between two walks: the time, a word in a cell, or the order to stop."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from locksmith.cells import Cell
from locksmith.errors import ClientClosed, StoreError

logger: Final = logging.getLogger("locksmith.celery")
_STEP: Final = 0.1
_SLICE: Final = 1.0
_PAUSE: Final = 1.0


class Bell:
    """Rung from other threads, and from signal handlers: nothing in it is locked."""

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()
        self._stopping = False

    def ring(self) -> None:
        """Whoever waits goes on."""
        self._rings.put(None)

    def stop(self) -> None:
        """Whoever waits goes on, and nobody begins anything."""
        self._stopping = True
        self._rings.put(None)

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._stopping

    def wait(self, timeout: float) -> bool:
        """Wait for `stop` alone: for those who stand for election."""
        until = time.monotonic() + timeout
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _STEP))
        return self._stopping

    def rung(self, timeout: float) -> bool:
        """Wait for a ring, whoever rings; rings before it count, and all together as one."""
        with suppress(Empty):
            self._rings.get(timeout=max(0.0, timeout))
            with suppress(Empty):
                while True:
                    self._rings.get_nowait()
            return True
        return False


class Watcher:
    """Rings whenever somebody has written a cell, on a thread of its own."""

    def __init__(self, cell: Cell[object], bell: Bell) -> None:
        self._cell = cell
        self._bell = bell
        self._over = threading.Event()
        self._seen = 0
        with suppress(StoreError):  # then the first word that is found rings, however old it is
            found = cell.get()
            self._seen = 0 if found is None else found.version
        self._thread = threading.Thread(target=self._watch, name="locksmith-scan-watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no longer. Returns when the thread has ended, soon."""
        self._over.set()
        self._thread.join(2 * _SLICE)

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                for found in self._cell.watch(wait=_SLICE):
                    version = 0 if found is None else found.version
                    if version != self._seen:
                        self._seen = version
                        self._bell.ring()
                    if self._over.is_set():
                        return
            except ClientClosed:
                return
            except StoreError as error:
                logger.debug("nobody can wake this scanner right now: %s", error)
                time.sleep(_PAUSE)
