"""Hears at once that the server has hung up, also while nobody asks: a thread that sleeps until then."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from locksmith.runtime import Runtime
from locksmith_sql.postgresql.hub import pipe


class Watch:
    """The sockets of one blocking client. On Linux; elsewhere, and under gevent, the next beat finds out.

    Only a hang-up wakes it, not an answer, so requests cost no switch between threads.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._tell: dict[int, Callable[[], None]] = {}
        self._poll: Any = None
        self._bell = pipe()

    def add(self, fd: int, tell: Callable[[], None]) -> None:
        """From now on `tell` is called, once, when this one is hung up."""
        with self._lock:
            if self._poll is None and not self._start():
                return
            self._tell[fd] = tell
            self._poll.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def remove(self, fd: int) -> None:
        """Before the socket is closed: a forked child may still have it, and then the system goes on telling."""
        with self._lock:
            if self._tell.pop(fd, None) is not None:
                with suppress(OSError):
                    self._poll.unregister(fd)

    def close(self) -> None:
        """End the thread."""
        os.write(self._bell[1], b"!")

    def _start(self) -> bool:
        if not hasattr(select, "epoll"):
            return False
        self._poll = select.epoll()
        self._poll.register(self._bell[0], select.EPOLLIN)
        if self._runtime.background(self._run, "locksmith-watch") is None:
            self._poll = None
        return self._poll is not None

    async def _run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._bell[0]:
                    return
                if tell := self._tell.get(fd):
                    tell()
