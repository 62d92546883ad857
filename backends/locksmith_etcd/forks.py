"""gRPC and fork: a child can use gRPC only where no thread was inside it when its parent forked.

gRPC stops its own threads around a fork where GRPC_ENABLE_FORK_SUPPORT says so, but it knows nothing of the threads
that call it, and skips all of it where there is one: the child then hangs at its first request. So calls pass a gate
that is closed for the moment of the fork, and watches are cut and opened anew.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from locksmith.errors import StoreUnavailable

T = TypeVar("T")

# Read by gRPC when it is loaded; on by default in its newer releases.
if "grpc" not in sys.modules:
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

PATIENCE: Final = 1.0
"""Seconds that a fork waits for requests under way."""


class _Gate:
    """Who is inside gRPC. Appending to and popping from a list are atomic, so that passing costs no lock."""

    def __init__(self) -> None:
        self.broken = False
        self.cut: weakref.WeakSet[Any] = weakref.WeakSet()
        self.fresh()

    def fresh(self) -> None:
        self._inside: list[None] = []
        self._open = threading.Event()
        self._open.set()
        self._forks = 0
        self._lock = threading.Lock()

    def through(self, call: Callable[[], T]) -> T:
        """What `call` returns, which enters gRPC and waits there."""
        self._enter()
        try:
            return call()
        finally:
            self._inside.pop()

    def _enter(self) -> None:
        if self.broken:
            raise StoreUnavailable(
                "this process was forked while a request to etcd hung, and gRPC does not work in it: start it anew"
            )
        while True:
            self._inside.append(None)
            if not self._forks:
                return
            self._inside.pop()
            self._open.wait(PATIENCE)

    def close(self) -> None:
        """Before a fork."""
        with self._lock:
            self._forks += 1
            self._open.clear()
        for watch in list(self.cut):
            with suppress(Exception):
                watch.cut()
        until = time.monotonic() + PATIENCE
        while self._inside and time.monotonic() < until:
            time.sleep(0.0005)  # requests take about a millisecond; nobody tells us when the last one is through

    def open(self) -> None:
        """After a fork, in the parent."""
        with self._lock:
            self._forks -= 1
            if not self._forks:
                self._open.set()

    def begin(self) -> None:
        """After a fork, in the child."""
        self.broken = self.broken or bool(self._inside)
        self.fresh()


gate: Final = _Gate()
os.register_at_fork(before=gate.close, after_in_parent=gate.open, after_in_child=gate.begin)


class Cut:
    """Ends a watch from another thread, so that its reader leaves gRPC."""

    def __init__(self) -> None:
        self._call: Any = None
        self._pid = 0
        self._closed = False
        gate.cut.add(self)

    def begin(self, call: Any) -> None:
        """This is the watch now."""
        self._call, self._pid = call, os.getpid()
        if self._closed:
            self.cut()

    def cut(self) -> None:
        """End the watch that there is now; harmless where there is none, or only that of a parent process."""
        if self._call is not None and self._pid == os.getpid():
            self._call.cancel()

    def close(self) -> None:
        """End it, and every later one."""
        self._closed = True
        self.cut()
