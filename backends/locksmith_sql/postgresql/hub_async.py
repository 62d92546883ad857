"""The waiter hub, asyncio: one listening connection per client, read by the loop itself."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from locksmith.errors import ClientClosed, StoreError
from locksmith.store import Ticket
from locksmith_sql.postgresql.errors import Broken, Trouble
from locksmith_sql.postgresql.link import keep_for_ever
from locksmith_sql.postgresql.link_async import AsyncLink, dismiss
from locksmith_sql.postgresql.waiters import PAUSES, Ask, Looking, Waiters
from locksmith_sql.postgresql.wire_async import AsyncWire


class AsyncHub:
    """Pushes to the tasks of one client. The connection belongs to the loop that opened it."""

    def __init__(self, link: AsyncLink, recheck: Ask, look: Ask) -> None:
        self._link = link
        self._recheck = recheck
        self.waiters = Waiters()
        self._looking = Looking(self.waiters, look)
        self._fresh()

    def _fresh(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = asyncio.Lock()
        self._wire: AsyncWire | None = None
        # A strong reference: the loop has only a weak one.
        self._mender: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def ready(self) -> bool:
        """See Hub.ready: on the loop that runs now."""
        if self._link.pooled:
            return True
        return self._wire is not None and self._loop is asyncio.get_running_loop()

    @property
    def channel(self) -> str:
        """See Hub.channel."""
        return "" if self._link.pooled else self.waiters.channel

    async def start(self) -> None:
        """See Hub.start."""
        self._settle_here()
        async with self._starting:
            if self.ready:
                return
            self._refuse_closed()
            self._wire = await self._listen_anew()
        if tickets := self.waiters.tickets():
            # Pushes may have been lost while nobody listened. Where this cannot be asked the keeper's beat will.
            with suppress(StoreError):
                await self._recheck(tickets)

    async def _listen_anew(self) -> AsyncWire | None:
        until = time.monotonic() + self._link.server.timeout
        wire = await self._link.open(until, tables=False)
        if wire.pooled:
            wire.close()
            return None
        wire.on_news = lambda: self._hear(wire)
        try:
            await wire.text(f'LISTEN "{self.waiters.channel}"'.encode(), until)
        except BaseException:
            wire.close()
            raise
        return wire

    def _hear(self, wire: AsyncWire) -> None:
        try:
            for payload in wire.news():
                self.waiters.hear(payload)
        except Broken:
            wire.close()
            if self._wire is wire:
                self._wire = None
                if not self._closed:
                    self._mender = asyncio.get_running_loop().create_task(self._mend(), name="locksmith-listen")

    async def _mend(self) -> None:
        """Listen again, for as long as somebody waits: who queues next starts anew."""
        failures = 0
        while not self._closed and not self.ready and self.waiters.tickets():
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
            failures += 1
            with suppress(*Trouble, StoreError, ClientClosed):
                await self.start()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClientClosed("this store was closed: connect again")

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait: the loop wakes the inbox."""
        self._refuse_closed()
        if ticket.inbox.peek() is None:
            if self._link.pooled:
                await self._looking.wait(ticket, timeout)
            else:
                await ticket.inbox.wait(timeout)

    def _settle_here(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._wire is not None:
            dismiss(self._wire)
        closed = self._closed
        self._fresh()
        self._closed = closed
        self._loop = loop

    async def close(self) -> None:
        """Stop listening."""
        self._closed = True
        self._settle_here()
        mender, self._mender = self._mender, None
        if mender is not None:
            mender.cancel()
            await asyncio.wait([mender])
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever((self._wire, self._mender))
        closed = self._closed
        self.waiters.reset()
        self._fresh()
        self._closed = closed
