"""`heartbeat="process"`, our side: renewal by a small child process, for work that starves this one's threads.

A C call that holds the GIL for a minute stops the keeper's thread; leases then end at their deadlines, as they must.
The heart is a child with a connection of its own that goes on renewing. Orders go to it through a pipe, whose end tells
it that this process is gone; what it was answered comes back through shared memory, so that reading it needs no thread.
This process's keeper stays on duty: it renews whatever the heart has not, so a dead heart costs nothing.

A process that is *stopped* keeps its leases while its heart beats: give `max_hold` to bound that.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from ctypes import c_double
from typing import Any, Final

from locksmith import events
from locksmith.engine.hold import Hold
from locksmith.errors import ConfigurationError
from locksmith.store import Store

SLOTS: Final = 16_384
"""Leases that one heart can carry; those beyond are renewed by the keeper alone."""
NOTHING: Final = 0.0
"""A slot's value before the first renewal was answered; afterwards the `since` of the last one (see Grant)."""
GONE: Final = -1.0
"""A slot's value once the store has said that the lease is lost."""
JOIN_SECONDS: Final = 1.0


class Heart:
    """The child process of one client. Started with the first lease; ends with the client, or with this process."""

    def __init__(self, url: object, store: Store) -> None:
        if not isinstance(url, str):
            raise ConfigurationError('heartbeat="process" needs a URL: its child opens a connection of its own')
        if store.one_process:
            raise ConfigurationError(f'heartbeat="process" cannot reach {store.address}, which lives in one process')
        if not store.heart_from_outside:
            raise ConfigurationError(
                f'heartbeat="process" cannot work with {store.address}: there a claim lives by the connection of the '
                'process that made it, and no other process can prolong it; use heartbeat="thread"'
            )
        if not hasattr(os, "register_at_fork"):  # pragma: no cover - Windows
            raise ConfigurationError('heartbeat="process" needs a POSIX system')
        self._hello = {"url": url, "namespace": store.namespace}
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._slots: Any = None
        self._free: deque[int] = deque()
        self._used: dict[str, int] = {}

    def keep(self, hold: Hold) -> None:
        """Have the child renew this, and let the hold look at what came of it."""
        with self._lock:
            if not self._start() or not self._free:
                return
            slot = self._free.popleft()
            self._slots[slot] = NOTHING
            grant = hold.grant
            order = {"keep": slot, "claim": grant.claim, "token": grant.token, "since": grant.since, "ttl": grant.ttl}
            if not self._say(order | {"ends_at": hold.ends_at}):
                self._free.append(slot)
                return
            self._used[grant.claim.owner] = slot
            hold.pulse = lambda: self._read(slot)
            # Otherwise both would renew at the same moment; our keeper comes second.
            hold.renew_due += grant.ttl / 6

    def drop(self, hold: Hold) -> None:
        """Have the child renew this no more."""
        hold.pulse = None
        with self._lock:
            slot = self._used.pop(hold.grant.claim.owner, None)
            if slot is not None:
                # To the end of the queue: an answer that is on its way to the child is still written into this slot,
                # and must not end, or seem to renew, the lease that has it next.
                self._say({"drop": hold.grant.claim.owner})
                self._free.append(slot)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            _end(child)

    def after_fork(self) -> None:
        """In a forked child: the heart is the parent's. Our copy of the pipe goes, or its end would never be seen."""
        if self._child is not None and self._child.stdin is not None:
            os.close(self._child.stdin.fileno())
            _inherited.append(self._child)
        self._fresh()

    def _read(self, slot: int) -> float | None:
        since: float = self._slots[slot]
        if since == GONE:
            return None
        return -math.inf if since == NOTHING else since

    def _start(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        try:
            with tempfile.TemporaryFile() as file:
                file.truncate(SLOTS * 8)
                self._slots = (c_double * SLOTS).from_buffer(mmap.mmap(file.fileno(), SLOTS * 8))
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "locksmith.engine.heart_process", str(file.fileno())],
                    stdin=subprocess.PIPE,
                    pass_fds=[file.fileno()],
                )
        except (OSError, RuntimeError) as error:
            events.logger.warning("no heartbeat process could be started, the keeper renews alone: %s", error)
            return False
        self._free = deque(range(SLOTS))
        return self._say(self._hello)

    def _say(self, order: dict[str, Any]) -> bool:
        if self._child is None or self._child.stdin is None:
            return False
        try:
            self._child.stdin.write(json.dumps(order).encode() + b"\n")
            self._child.stdin.flush()
        except OSError:
            return False
        return True


_inherited: list[subprocess.Popen[bytes]] = []
"""Hearts of a parent process: kept, so that collecting them does not speak to or wait for a child that is not ours."""


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        if child.stdin is not None:
            child.stdin.close()
        child.wait(JOIN_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        child.kill()
        child.wait()
