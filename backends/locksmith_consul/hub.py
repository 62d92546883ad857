"""The waiter hub, blocking: one thread reads the queries of all names that this client's threads wait for.

Each waited name has a connection of its own, because an agent answers one request after the other on each; the thread
sleeps on all of them at once. It is started with the first waiter and ends when nobody has waited for a while.
"""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import suppress
from typing import Any, Final

from locksmith.errors import ClientClosed, StoreError
from locksmith.nodes import Node
from locksmith.runtime import Background, Runtime
from locksmith.store import Ticket
from locksmith_consul.base import FAULTS
from locksmith_consul.board import PAUSES, Ask, Board, Watch
from locksmith_consul.http import Reply
from locksmith_consul.link import Link, keep_for_ever
from locksmith_consul.wire import Wire

IDLE: Final = 10.0
"""Seconds without a waiter after which the thread ends."""
JOIN: Final = 1.0
"""Seconds that closing waits for it."""


class _Query:
    """A waited name: what is asked about it, and the connection that this is asked on."""

    __slots__ = ("anew", "due", "failures", "reused", "watch", "wire")

    def __init__(self, watch: Watch) -> None:
        self.watch: Watch | None = watch
        """None once it ended, or failed."""
        self.wire: Wire | None = None
        self.due = 0.0
        """When the request under way has failed, or, without one, when the next is sent."""
        self.reused = False
        self.failures = 0
        self.anew: Watch | None = None
        """What is to be asked instead."""

    def drop(self) -> None:
        """End the connection."""
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.close()

    def stop(self) -> None:
        """Ask nothing more."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.close()


class Hub:
    """Tells the threads of one client."""

    def __init__(self, link: Link, board: Board, runtime: Runtime) -> None:
        self._link = link
        self._board = board
        self._runtime = runtime
        self._closed = False
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._thread: Background | None = None
        self._ends: tuple[int, int] | None = None
        self._queries: dict[str, _Query] = {}

    def join(self, ticket: Ticket, line: list[Node]) -> None:
        """Somebody waits for this ticket; its name had these claims when it was made."""
        key = ticket.claim.key
        with self._lock:
            earlier = self._board.join(ticket)
            if self._closed:
                return
            if key not in self._queries:
                self._queries[key] = _Query(self._board.watch(key, line, ticket.number))
                self._wake()
            elif earlier:
                self._queries[key].anew = self._board.watch(key, line, ticket.number)
                self._wake()

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more."""
        self._board.forget(ticket.claim.key, ticket.claim.owner, ticket)
        if ticket.claim.key in self._queries and not self._board.waiting(ticket.claim.key):
            with self._lock:
                self._wake()

    def _wake(self) -> None:
        """Have the thread look at the world again; start it where there is none. Under the lock."""
        if self._ends is None:
            self._ends = os.pipe()
            for end in self._ends:
                os.set_blocking(end, False)
        if self._thread is None or not self._thread.alive():
            # None again where no thread can be started any more: then the keeper's beats find the grants.
            self._thread = self._runtime.background(self._run, "locksmith-consul-waiting")
        else:
            with suppress(OSError):  # full: it is about to wake up anyway
                os.write(self._ends[1], b"!")

    async def _run(self) -> None:
        idle_since = time.monotonic()
        while True:
            now = time.monotonic()
            with self._lock:
                self._leave_out()
                queries = dict(self._queries)
                if queries:
                    idle_since = now
                elif self._closed or now - idle_since >= IDLE:
                    self._end()
                    return
                ends = self._ends
            for query in queries.values():
                if now >= query.due:
                    self._overdue(query)
            if ends is not None:
                self._sleep(ends[0], list(queries.values()), idle_since + IDLE)

    def _leave_out(self) -> None:
        """End the queries about names that nobody waits for. Under the lock: who joins comes before this or after."""
        for key, query in list(self._queries.items()):
            if self._closed or not self._board.waiting(key):
                del self._queries[key]
                query.drop()
                query.stop()
            elif query.anew is not None:
                query.drop()
                query.stop()
                query.watch, query.anew, query.due = query.anew, None, 0.0
            elif query.watch is None:  # it failed, or it ended when somebody had just joined
                query.watch = self._board.watch(key, None, 0)

    def _end(self) -> None:
        self._thread = None
        ends, self._ends = self._ends, None
        for end in ends or ():
            os.close(end)

    def _overdue(self, query: _Query) -> None:
        """Nothing was answered in time; or it is time to ask."""
        if query.wire is not None:
            query.drop()
            self._fail(query)
        elif query.watch is not None:
            self._advance(query, query.watch, None)

    def _advance(self, query: _Query, watch: Watch, reply: Reply | None) -> None:
        """Hand in a reply, and send what is asked next."""
        try:
            ask = next(watch) if reply is None else watch.send(reply)
        except StopIteration:
            query.stop()
            query.due = 0.0
        except StoreError:
            self._fail(query)
        else:
            if reply is not None:
                query.failures = 0
            self._send(query, ask)

    def _send(self, query: _Query, ask: Ask) -> None:
        limit = self._link.server.timeout
        wire = None if query.failures else self._link.idle()
        query.reused = wire is not None
        try:
            query.wire = wire = wire or self._link.open(limit)
            wire.send(self._link.payload("GET", ask.target), limit)
        except (*FAULTS, ClientClosed):
            query.drop()
            self._fail(query)
        else:
            query.due = time.monotonic() + ask.seconds + limit

    def _fail(self, query: _Query) -> None:
        """Ask again from the beginning, a little later."""
        query.stop()
        # A connection that died while it was idle is no news: the next one is opened at once.
        pause = 0.0 if query.reused else PAUSES[min(query.failures, len(PAUSES) - 1)]
        query.due = time.monotonic() + pause
        query.failures += 1

    def _sleep(self, end: int, queries: list[_Query], until: float) -> None:
        """Sleep until something arrives, is due, or somebody wakes us; and hand in what arrived."""
        poller: Any = select.poll()  # looked up now: gevent's patching replaces it
        poller.register(end, select.POLLIN)
        asked = {}
        for query in queries:
            until = min(until, query.due)
            if query.wire is not None:
                asked[query.wire.sock.fileno()] = query, query.wire
        for number in asked:
            poller.register(number, select.POLLIN)
        for number, _ in poller.poll(max(0.0, (until - time.monotonic()) * 1000)):
            if number == end:
                with suppress(BlockingIOError):
                    os.read(end, 4096)
            else:
                self._pull(*asked[number])

    def _pull(self, query: _Query, wire: Wire) -> None:
        try:
            reply = wire.pull()
        except FAULTS:
            query.drop()
            self._fail(query)
            return
        if reply is not None and query.watch is not None:
            query.wire = None
            self._link.keep(wire, reply)
            self._advance(query, query.watch, reply)

    async def close(self) -> None:
        """End the thread, and with it the connections."""
        with self._lock:
            self._closed = True
            thread = self._thread
            if thread is not None:
                self._wake()
        if thread is not None:
            await thread.join(JOIN)

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever((self._queries, self._ends, self._thread))
        self._board.reset()
        self._fresh()
