"""The waiter hub, blocking: one listening connection per client, read by whichever of its threads waits first.

The first waiting thread (the leader) sleeps on the socket and on a pipe, and hands the news to the inboxes of the
others (the followers), who sleep on those. When it leaves it wakes one follower, who leads from then on. There is no
thread of ours: after a fork there is nothing half-alive, and a hand-off costs no extra switch. The pattern is
Leader/Followers (Schmidt et al., Pattern-Oriented Software Architecture 2, 2000).
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from contextlib import suppress
from typing import Final

from locksmith.errors import ClientClosed, StoreError
from locksmith.store import Inbox, Ticket
from locksmith_sql.postgresql.errors import Broken, Trouble
from locksmith_sql.postgresql.link import Link, keep_for_ever
from locksmith_sql.postgresql.waiters import PAUSES, Ask, Looking, Waiters
from locksmith_sql.postgresql.wire import Wire

_LEAST: Final = 0.05
"""Seconds that an attempt to listen may take, however little time its thread has left."""


class Hub:
    """Pushes to the threads of one client."""

    def __init__(self, link: Link, recheck: Ask, look: Ask) -> None:
        self._link = link
        self._recheck = recheck
        self.waiters = Waiters()
        self._looking = Looking(self.waiters, look)
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._wire: Wire | None = None
        self._leader: int | None = None
        self._followers: dict[int, Inbox] = {}
        self._pipe = pipe()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether we listen, as far as we know, or know that it would be in vain."""
        return self._wire is not None or self._link.pooled is True

    @property
    def channel(self) -> str:
        """Where pushes are to go; empty where none would arrive."""
        return "" if self._link.pooled else self.waiters.channel

    async def start(self, within: float | None = None) -> None:
        """Listen, unless we do. Raises Refused, Broken, Late, StoreError."""
        seconds = self._link.server.timeout
        seconds = seconds if within is None else max(_LEAST, min(within, seconds))
        if not self._starting.acquire(timeout=seconds):
            return  # somebody else is about to
        try:
            if self.ready:
                return
            self._refuse_closed()
            self._wire = self._listen_anew(time.monotonic() + seconds)
        finally:
            self._starting.release()
        self._interrupt()  # a leader that pauses can go on
        if tickets := self.waiters.tickets():
            # Pushes may have been lost while nobody listened. Where this cannot be asked the keeper's beat will.
            with suppress(StoreError):
                await self._recheck(tickets)

    def _listen_anew(self, until: float) -> Wire | None:
        wire = self._link.open(until, tables=False)
        if wire.pooled:
            wire.close()
            return None
        try:
            wire.text(f'LISTEN "{self.waiters.channel}"'.encode(), until)
        except BaseException:
            wire.close()
            raise
        return wire

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait."""
        self._refuse_closed()
        if self._link.pooled:
            await self._looking.wait(ticket, timeout)
            return
        inbox = ticket.inbox
        with self._lock:
            leads = self._leader is None
            if leads:
                self._leader = threading.get_ident()
            else:
                self._followers[id(inbox)] = inbox
        try:
            if leads:
                await self._lead(inbox, timeout)
            elif inbox.peek() is None:
                await inbox.wait(timeout)
        finally:
            self._step_down(inbox, leads)

    def _step_down(self, inbox: Inbox, led: bool) -> None:
        with self._lock:
            self._followers.pop(id(inbox), None)
            if led:
                self._leader = None
            # Whoever leaves sees to it that somebody leads: the follower chosen may have been just about to leave.
            heir = next(iter(self._followers.values()), None) if self._leader is None else None
        if heir is not None:
            heir.wake()
        elif led and self._closed:
            self._drop(self._wire)

    async def _lead(self, inbox: Inbox, timeout: float | None) -> None:
        until = None if timeout is None else time.monotonic() + timeout
        failures = 0
        inbox.wakers.append(self._interrupt)
        try:
            while inbox.peek() is None and not self._closed:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return
                wire = self._wire
                if wire is not None:
                    failures = 0
                    self._read(wire, left)
                else:
                    # At growing intervals, so that nothing spins while the server is down.
                    pause = PAUSES[min(failures, len(PAUSES) - 1)]
                    if self._sleep(None, pause if left is None else min(pause, left)):
                        continue
                    failures += 1
                    with suppress(*Trouble, StoreError):
                        await self.start(left)
        finally:
            inbox.wakers.remove(self._interrupt)

    def _read(self, wire: Wire, left: float | None) -> None:
        """Sleep until something arrives or somebody interrupts, and hand out what arrived."""
        try:
            if self._sleep(wire.pg.socket, left):
                for payload in wire.news():
                    self.waiters.hear(payload)
        except (Broken, OSError, ValueError):
            self._drop(wire)

    def _sleep(self, sock: int | None, left: float | None) -> bool:
        """Sleep on the pipe and the socket; whether the socket woke us, or without one the pipe."""
        end = self._pipe[0]
        poller = select.poll()  # looked up now: gevent's patching replaces it
        poller.register(end, select.POLLIN)
        if sock is not None:
            poller.register(sock, select.POLLIN)
        found = {number for number, _ in poller.poll(None if left is None else math.ceil(max(0, left * 1000)))}
        if end in found:
            with suppress(BlockingIOError):
                os.read(end, 4096)
        return (end if sock is None else sock) in found

    def _interrupt(self) -> None:
        """Make the leader look at the world again. From any thread."""
        if self._leader != threading.get_ident():
            with suppress(OSError):  # full: it is about to wake up anyway
                os.write(self._pipe[1], b"!")

    def _drop(self, wire: Wire | None) -> None:
        if wire is not None:
            if self._wire is wire:
                self._wire = None
            wire.close()

    async def close(self) -> None:
        """Stop listening; a leader still waiting closes the connection when it leaves."""
        self._closed = True
        with self._lock:
            leaderless = self._leader is None
        if leaderless:
            self._drop(self._wire)
        else:
            self._interrupt()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._wire)
        closed = self._closed
        self.waiters.reset()
        self._fresh()
        self._closed = closed


class Pipe(tuple[int, int]):
    """Two ends that are closed with the last reference: a leader may still sleep on them when the hub is closed."""

    __slots__ = ()

    def __del__(self) -> None:
        for end in self:
            with suppress(OSError):
                os.close(end)


def pipe() -> Pipe:
    """A pipe to wake a sleeper with: neither end blocks."""
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return Pipe(ends)
