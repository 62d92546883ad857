"""How many calls were folded into which: counted in this process, and told to the store once a second at most.

A duplicate costs no request for this: the count is written by a short-lived thread, for all keys of that second.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from locksmith.errors import LocksmithError

EVERY: Final = 1.0
"""Seconds that a count may be behind."""
KEPT: Final = 3600.0
"""Seconds for which a count is kept after its last change."""
_MOST_KEYS: Final = 1000
"""Keys told at a time; what is beyond is not counted."""
_MOST_IDS: Final = 8
"""Calls of one key whose counts are kept: the newest."""


class Folds:
    """The counts of one process that the store does not know yet."""

    def __init__(self, tell: Callable[[str, Mapping[str, int]], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._pending: dict[tuple[str, str], int] = {}
        self._armed = False

    def add(self, key: str, task_id: str) -> None:
        """One more call was folded into this one."""
        with self._lock:
            pending, call = self._pending, (key, task_id)
            if call in pending or len(pending) < _MOST_KEYS:
                pending[call] = pending.get(call, 0) + 1
            if self._armed:
                return
            self._armed = True
        self._arm()

    def tell(self) -> None:
        """Tell the store now. Raises nothing: these are counts for people."""
        with self._telling:
            with self._lock:
                pending, self._pending, self._armed = self._pending, {}, False
            by_key: dict[str, dict[str, int]] = {}
            for (key, task_id), count in pending.items():
                by_key.setdefault(key, {})[task_id] = count
            with suppress(LocksmithError):
                for key, told in by_key.items():
                    self._tell(key, told)

    def _arm(self) -> None:
        timer = threading.Timer(EVERY, self.tell)
        timer.name, timer.daemon = "locksmith-celery-folds", True
        try:
            timer.start()
        except RuntimeError:  # no thread can start any more: the process ends
            return
        _at_exit(self)


def counts(raw: bytes) -> dict[str, int]:
    """What a cell says, by task id; nothing where it was not written by us."""
    try:
        told = json.loads(raw)["folded"]
        return {str(task_id): int(count) for task_id, count in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def added(raw: bytes | None, told: Mapping[str, int]) -> bytes:
    """The same with these counts added."""
    merged = {} if raw is None else counts(raw)
    for task_id, count in told.items():
        merged[task_id] = merged.pop(task_id, 0) + count
    kept = dict(list(merged.items())[-_MOST_IDS:])
    return json.dumps({"folded": kept}, separators=(",", ":")).encode("ascii")


_known: weakref.WeakSet[Folds] = weakref.WeakSet()
_pid = 0


def _at_exit(folds: Folds) -> None:
    global _pid  # noqa: PLW0603 - handlers are inherited by forked children, and the set with them
    if _pid != os.getpid():
        _pid = os.getpid()
        _known.clear()
        atexit.register(_tell_all, _pid)
    _known.add(folds)


def _tell_all(pid: int) -> None:
    if pid == os.getpid():
        for folds in list(_known):
            if folds._pending:
                folds.tell()
