"""The one watch of a client: it hears of every claim that ends in its namespace, and tells those who wait.

A watch of its own for every waiter would cost the server up to 100 ms each, and the client a stream each. Only ends are
asked for: who comes later stands behind us. There is nothing to resume: a watch that broke is opened anew from now on,
and then everybody's place is looked up once.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Final

from locksmith.errors import ClientClosed, StoreError
from locksmith.runtime import Background, Event, Runtime
from locksmith.store import Gone, Grant, Ticket
from locksmith_etcd import rpc
from locksmith_etcd.errors import ChannelClosed
from locksmith_etcd.forks import Cut
from locksmith_etcd.keys import after
from locksmith_etcd.link import Link
from locksmith_etcd.waiters import Waiters

_PAUSES: Final = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Seconds between attempts to watch again; the last one repeats."""
_IDLE: Final = 60.0
"""Seconds without waiters after which the watch is given up: others' claims are no longer our business."""

_JOIN: Final = 0.2
"""Seconds that closing waits for the reader, which may pause between two attempts."""

Look = Callable[[Link, list[Ticket]], Awaitable[list[Grant | Gone | None]]]
"""Asks about these tickets at once."""


class Hub:
    """Pushes to the waiters of one client. `runtime` is where its reader runs: a thread, unless all is grpc.aio."""

    def __init__(self, link: Link, runtime: Runtime, locks: bytes, look: Look) -> None:
        self.waiters = Waiters()
        self._link = link
        self._runtime = runtime
        self._look = look
        self._request = rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(
                key=locks, range_end=after(locks), filters=[rpc.WatchCreateRequest.NOPUT]
            )
        )
        self._closed = False
        self.fresh()

    def fresh(self) -> None:
        """Begin anew, as in a forked child, where there is no reader."""
        self.waiters.reset()
        self._cut = Cut()
        self._lock = threading.Lock()
        self._reader: Background | None = None
        self._starting: list[Event] = []
        self.ready = False
        self._needed_at = self._runtime.clock.now()

    async def start(self, event: Event, within: float) -> None:
        """Watch, unless we do; returns when the server has confirmed it, or after so many seconds."""
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        self._needed_at = self._runtime.clock.now()
        with self._lock:
            self._starting.append(event)
            if self._reader is None or not self._reader.alive():
                self._reader = self._runtime.background(self._run, "locksmith-etcd-watch")
        try:
            if not self.ready:
                await event.wait(within)
        finally:
            self._starting.remove(event)

    async def _run(self) -> None:
        failures = 0
        while self._goes_on():
            try:
                async with aclosing(self._link.watch(self._request, self._cut)) as stream:
                    async for response in stream:
                        if response.created and not response.canceled:
                            failures = 0
                            await self._begin()
                        if not self._hear(response):
                            break
            except ChannelClosed as closed:
                self._give_up(closed)
            except (StoreError, ClientClosed):
                pass
            self.ready = False
            await self._runtime.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1

    def _give_up(self, closed: ChannelClosed) -> None:
        """Nobody opens a closed channel again: those who wait are told, and those who begin to find out."""
        for ticket in self.waiters.tickets():
            ticket.inbox.deliver(closed)
        for event in tuple(self._starting):
            event.set()

    def _goes_on(self) -> bool:
        # Decided and noted in one step: whoever comes to wait just now must not rely on a reader that is about to end.
        with self._lock:
            if not self._closed and self._is_needed():
                return True
            self._reader = None
            return False

    def _is_needed(self) -> bool:
        now = self._runtime.clock.now()
        if self.waiters.any() or self._starting:
            self._needed_at = now
        return now < self._needed_at + _IDLE

    async def _begin(self) -> None:
        self.ready = True
        for event in tuple(self._starting):
            event.set()
        # Ends may have gone unheard while nobody watched. Where this cannot be asked the keeper's beat will.
        if tickets := self.waiters.tickets():
            with suppress(StoreError):
                for ticket, news in zip(tickets, await self._look(self._link, tickets), strict=True):
                    if news is not None:
                        ticket.inbox.deliver(news)

    def _hear(self, response: Any) -> bool:
        """Tell those whom it concerns; False where this watch is of no use any more."""
        if response.canceled:
            return False
        self.waiters.ended([(event.kv.key, event.kv.mod_revision) for event in response.events])
        return not self._closed and self._is_needed()

    async def close(self) -> None:
        """End the watch and its reader."""
        self._closed = True
        self._cut.close()
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.join(_JOIN)
