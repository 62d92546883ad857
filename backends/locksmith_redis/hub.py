"""The waiter hub, blocking: one subscribed connection per client, read by whichever of its threads waits first.

The first waiting thread (the leader) sleeps on the socket and on a pipe, and hands the news to the inboxes of the
others (the followers), who sleep on those. When it leaves it wakes one follower, who leads from then on. There is no
thread of ours: after a fork there is nothing half-alive, and a hand-off costs no extra switch. The pattern is
Leader/Followers (Schmidt et al., Pattern-Oriented Software Architecture 2, 2000).
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final

from redis import exceptions as driver

from locksmith.errors import ClientClosed, StoreError
from locksmith.store import Inbox, Ticket
from locksmith_redis.link import keep_for_ever
from locksmith_redis.resp import MORE
from locksmith_redis.server import Endpoint
from locksmith_redis.waiters import PAUSES, Recheck, Waiters
from locksmith_redis.wire import CHUNK, Wire

_LEAST: Final = 0.05
"""Seconds that an attempt to subscribe may take, however little time its thread has left."""


class Hub:
    """Pushes to the threads of one client."""

    def __init__(self, server: Endpoint, waiters: Waiters, recheck: Recheck) -> None:
        self._server = server
        self._recheck = recheck
        self.waiters = waiters
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._wire: Wire | None = None
        self._leader: int | None = None
        self._followers: dict[int, Inbox] = {}
        self._pipe = _pipe()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether we are subscribed, as far as we know."""
        return self._wire is not None

    async def start(self, within: float | None = None) -> None:
        """Subscribe, unless we are; returns when the server has confirmed it. Raises the driver's errors."""
        seconds = self._server.timeout if within is None else max(_LEAST, min(within, self._server.timeout))
        if not self._starting.acquire(timeout=seconds):
            return  # somebody else is about to
        try:
            if self._wire is not None:
                return
            self._refuse_closed()
            self._wire = self._subscribe(seconds)
            if self._closed:
                # Closing waits for nobody who is just about to subscribe, and has not seen this connection.
                self._drop(self._wire)
                self._refuse_closed()
        finally:
            self._starting.release()
        self._interrupt()  # a leader that pauses can go on
        if tickets := self.waiters.tickets():
            # Pushes may have been lost while nobody was subscribed. Where this cannot be asked the keeper's beat will.
            with suppress(StoreError):
                await self._recheck(tickets)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait."""
        self._refuse_closed()
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
                    self._listen(wire, left)
                else:
                    # At growing intervals, so that nothing spins while the server is down.
                    pause = PAUSES[min(failures, len(PAUSES) - 1)]
                    if self._sleep(None, pause if left is None else min(pause, left)):
                        continue
                    failures += 1
                    with suppress(driver.RedisError, OSError, StoreError):
                        await self.start(left)
        finally:
            inbox.wakers.remove(self._interrupt)

    def _listen(self, wire: Wire, left: float | None) -> None:
        """Sleep until something arrives or somebody interrupts, and hand out what arrived."""
        try:
            # TLS may hold bytes that the socket does not show.
            if getattr(wire.sock, "pending", int)() or self._sleep(wire.sock, left) == "data":
                data = _receive(wire.sock)
                if data is not None:
                    wire.reader.feed(data)
                    self._hand_out(wire)
        except (OSError, ValueError, driver.RedisError):
            self._drop(wire)

    def _hand_out(self, wire: Wire) -> bool:
        """Hand out the messages that are complete; whether a subscription was confirmed among them."""
        confirmed = False
        while (message := wire.reader.gets()) is not MORE:
            if isinstance(message, driver.RedisError):
                raise message
            confirmed = self.waiters.confirms(message) or confirmed
            self.waiters.hear(message)
        return confirmed

    def _sleep(self, sock: Any, left: float | None) -> str | None:
        """Sleep on the pipe and the socket; says which one woke us."""
        end = self._pipe[0]
        poller = select.poll()  # looked up now: gevent's patching replaces it
        poller.register(end, select.POLLIN)
        if sock is not None:
            poller.register(sock, select.POLLIN)
        found = poller.poll(None if left is None else max(0, left * 1000))
        if not found:
            return None
        if any(number == end for number, _ in found):
            with suppress(BlockingIOError):
                os.read(end, 4096)
            return "interrupt" if len(found) == 1 else "data"
        return "data"

    def _interrupt(self) -> None:
        """Make the leader look at the world again. From any thread."""
        if self._leader != threading.get_ident():
            with suppress(OSError):  # full: it is about to wake up anyway
                os.write(self._pipe[1], b"!")

    def _subscribe(self, seconds: float) -> Wire:
        wire = Wire(self._server, seconds)
        try:
            wire.sock.settimeout(seconds)
            wire.send(self.waiters.subscription)
            confirmed = False
            while not confirmed:
                wire.reader.feed(_receive(wire.sock) or b"")
                confirmed = self._hand_out(wire)
            wire.sock.settimeout(0)  # from here on we read only what is there
        except TimeoutError as error:
            wire.close()
            raise driver.TimeoutError("the subscription was not confirmed in time") from error
        except BaseException:
            wire.close()
            raise
        return wire

    def _drop(self, wire: Wire | None) -> None:
        if wire is not None:
            if self._wire is wire:
                self._wire = None
            with suppress(Exception):
                wire.close()

    def move(self) -> None:
        """The server is not the right one any more: hang up, and subscribe where the right one is."""
        wire = self._wire
        if wire is not None:
            with suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)  # wakes the leader, or the next one, with the end of the stream

    async def close(self) -> None:
        """Unsubscribe by closing; a leader still waiting closes it when it leaves."""
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


class _Pipe(tuple[int, int]):
    """Two ends that are closed with the last reference: a leader may still sleep on them when the hub is closed."""

    __slots__ = ()

    def __del__(self) -> None:
        for end in self:
            with suppress(OSError):
                os.close(end)


def _pipe() -> _Pipe:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return _Pipe(ends)


def _receive(sock: Any) -> bytes | None:
    """What has arrived; None where it was nothing we can use yet. Raises OSError at the end of the stream."""
    try:
        data: bytes = sock.recv(CHUNK)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError as error:
        if type(error).__name__ == "SSLWantReadError":
            return None
        raise
    if not data:
        raise ConnectionResetError("the server closed the connection")
    return data
