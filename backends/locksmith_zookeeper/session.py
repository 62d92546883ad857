"""A session with the server: what is asked in it, and what is known of its life."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.connection import _CONNECTION_DROP
from kazoo.protocol.serialization import CloseInstance
from kazoo.protocol.states import KazooState, KeeperState

from locksmith import redact
from locksmith.errors import InvalidTTL, StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable
from locksmith.runtime import Event, Runtime
from locksmith_zookeeper.connection import Murmur, make, monotonic
from locksmith_zookeeper.errors import LOST
from locksmith_zookeeper.url import Server
from locksmith_zookeeper.wire import Batch, Delete, GetChildren, Reply

CLOSING_SECONDS: Final = 2.0
"""How long closing waits for the server; what it has not heard by then ends with its ttl."""


class Withdrawn(Exception):
    """See Session.ask."""


class Answer(NamedTuple):
    """What the server said to requests that were sent together: results, and errors about single ones."""

    values: list[Any]
    since: float
    """The runtime's clock, read before they were sent."""
    again: bool
    """Whether they were sent before, and what became of that is unknown."""


class Session:
    """One session, one connection: kazoo's client, made with the first request.

    Kazoo makes a new session by itself where the server has ended the old one; `number` tells them apart.
    """

    def __init__(self, server: Server, ttl: float, runtime: Runtime, *, strict: bool) -> None:
        self.asked_ttl = ttl
        self.ttl = ttl
        self.number = 0
        self.used = runtime.clock.now()
        """The runtime's clock when somebody last took it to ask."""
        self.word = float("-inf")
        """The runtime's clock before the last request was sent that a majority has confirmed."""
        self.on_connected: list[Callable[[], object]] = []
        self.on_lost: list[Callable[[], object]] = []
        self._server = server
        self._runtime = runtime
        self._strict = strict
        self._now = runtime.clock.now
        # Entered anew by answers that kazoo gives while it is asked.
        self._lock = threading.RLock()
        self._client: KazooClient | None = None
        self._murmur = Murmur()
        self._arrivals: list[Event] = []
        self._spoke = monotonic()
        self._nodes: set[str] = set()
        self._doubts: dict[str, str] = {}
        self._ready = False
        self._refused = False
        self._over = False
        self._error: Exception | None = None
        self._closed = False

    # What the connection asks; see connection.Life.

    def silent_for(self) -> float:
        """See Life."""
        return monotonic() - self._spoke if self._nodes or self._doubts else 0.0

    def negotiated(self, ttl: float, session: int) -> None:
        """See Life."""
        self.ttl = ttl
        self.number = session
        self._ready = True
        self.sweep()
        _call_all(self.on_connected)
        self._wake()

    def ended(self, error: Exception | None) -> None:
        """See Life."""
        self._error = error
        self._over = True
        self._wake()

    # What claims there are.

    def keep(self, path: str) -> None:
        """There is a node of ours: from now on the session lives by our words."""
        self._nodes.add(path)

    def forget(self, path: str) -> None:
        """There is no such node any more."""
        self._nodes.discard(path)

    def doubt(self, owner: str, parent: str) -> None:
        """A node of this owner may have been made, or be made yet; it is looked for once the server answers again."""
        self._doubts[owner] = parent

    def settled(self, owner: str) -> None:
        """Nothing is left of this owner."""
        self._doubts.pop(owner, None)

    def sweep(self) -> None:
        """Look for the nodes of owners in doubt and delete them. Waits for nothing; any thread."""
        for owner, parent in list(self._doubts.items()):
            self.post(GetChildren(parent, None), partial(self._sweep, owner))

    def _sweep(self, owner: str, reply: Reply) -> None:
        children = reply.value
        with self._lock:  # a repeated acquire clears the doubt and then finds, or makes, its node
            parent = self._doubts.get(owner)
            if parent is None or isinstance(children, LOST):
                return
            left = [] if isinstance(children, Exception) else [c for c in children if c.startswith(owner)]
            for child in left:
                self.post(Delete(f"{parent}/{child}", -1), partial(self._deleted, owner, parent))
                self.forget(f"{parent}/{child}")
            if not left:
                self.settled(owner)

    def _deleted(self, owner: str, parent: str, reply: Reply) -> None:
        # This owner alone: each one's search would otherwise begin those of all others anew. And not where deleting is
        # forbidden, which the server would say as often as it is asked: the next connection asks again.
        if reply.value is True or isinstance(reply.value, NoNodeError):
            self.post(GetChildren(parent, None), partial(self._sweep, owner))

    # Asking.

    async def ask(self, *requests: Any, until: float, unless: Callable[[], bool] | None = None) -> Answer:
        """Send requests and wait for all answers; again where the connection broke before they came.

        Raises StoreError; Withdrawn where `unless` said so just before they would have been sent.
        """
        again = False
        while True:
            await self.ready(until)
            batch = self.send(requests, unless)
            values = await self.hear(batch, until)
            if values is None:
                raise self._unavailable("did not answer in time; what became of the request is unknown")
            broken = next((value for value in values if isinstance(value, LOST)), None)
            if broken is None:
                return Answer(values, batch.since, again)
            again = True
            if self._now() >= until:
                told = self._unavailable("was lost while we asked; what became of the request is unknown")
                raise told from broken
            # Kazoo is told of the end of a connection by the thread that reconnects; its state is behind for a moment.
            await self._runtime.sleep(0.002)

    def send(self, requests: Sequence[Any], unless: Callable[[], bool] | None = None) -> Batch:
        """Put requests into the queue, one after the other with nothing between. Raises Withdrawn, StoreError."""
        client = self._client
        if client is None:
            raise self._unavailable("was left while we asked")
        batch = Batch(self._runtime.event(), self._now())
        replies = batch.replies(len(requests))
        with self._lock:
            if unless is not None and unless():
                raise Withdrawn
            self._spoke = monotonic()
            for request, reply in zip(requests, replies, strict=True):
                client._call(request, reply)
        return batch

    async def hear(self, batch: Batch, until: float) -> list[Any] | None:
        """The answers to what was sent, None where they do not come in time: then doubts are looked into later."""
        try:
            values = await batch.wait(max(0.0, until - self._now()))
        except BaseException:
            batch.call_late(self.sweep)
            raise
        if values is None:
            batch.call_late(self.sweep)
        return values

    def post(self, request: Any, then: Callable[[Reply], object] | None = None) -> None:
        """Send a request whose answer nobody waits for; `then` gets it on kazoo's thread. Any thread."""
        client = self._client
        if client is not None and not self._closed:
            client._call(request, Reply(then or _ignore))

    def confirmed(self, since: float) -> None:
        """A majority has confirmed a request that was sent after `since`."""
        self.word = max(self.word, since)

    def believed(self, number: int, since: float) -> float:
        """Since when a node that lives by this session is believed in: never, where we have another one by now.

        The server may keep that one, and the node, for a while yet, but nobody prolongs it.
        """
        return since if number == self.number else float("-inf")

    @property
    def connected(self) -> bool:
        """Whether a request would be sent at once."""
        return self._ready

    async def ready(self, until: float) -> None:
        """Return when there is a connection, and the ttl is known. Raises StoreError, InvalidTTL."""
        while not self._ready:
            self._start()
            arrival = self._runtime.event()
            self._arrivals.append(arrival)
            try:
                # Looked at again: it may have come just now.
                if not (self.connected or self._over):
                    left = until - self._now()
                    if left <= 0 or not await arrival.wait(left):
                        raise self._unavailable("could not be reached")
            finally:
                with suppress(ValueError):
                    self._arrivals.remove(arrival)
            if self._over:
                raise self._gave_up() from self._error
        self._check_ttl()

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("ZooKeeper: the store was closed while this asked: connect again.")
            if self._client is None:
                self._over = self._refused = False
                client = make(self._server, self.asked_ttl, self, self._murmur, asynchronous=self._runtime.is_async)
                client.add_listener(self._state_changed)
                self._client = client
                client.start_async()

    def _gave_up(self) -> StoreError:
        with self._lock:
            client = self._client if self._over else None
            if self._over:
                self._client = None  # the next request tries anew; it may have begun to
        if self._closed:
            return StoreUnavailable("ZooKeeper: the store was closed while this asked: connect again.")
        if client is not None:
            _dispose(client)
        if self._refused:
            return StoreAuthError("ZooKeeper: the server refused our credentials: correct them in the URL.")
        return StoreProtocolError(
            f"ZooKeeper: {self._server.address} answered what kazoo does not understand ({self._error!r}); check "
            "that URL, server and version belong together."
        )

    def _check_ttl(self) -> None:
        if self._strict and self.ttl < self.asked_ttl * 0.999:
            raise InvalidTTL(
                f"the server keeps sessions for at most {self.ttl:g} s (maxSessionTimeout), not {self.asked_ttl:g}: "
                "choose a ttl that it can keep, or raise its limit"
            )

    def _unavailable(self, what: str) -> StoreUnavailable:
        hint = f" ({redact.text(self._murmur.last)})" if self._murmur.last and not self._ready else ""
        return StoreUnavailable(f"ZooKeeper: {self._server.address} {what}{hint}; check that it runs, and try again.")

    # On kazoo's threads.

    def _state_changed(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            return  # not before the connection has told what was negotiated
        self._ready = False
        if state == KazooState.LOST:
            self._refused = self._client is not None and self._client.client_state == KeeperState.AUTH_FAILED
            self.word = float("-inf")
            self._nodes.clear()
            self._doubts.clear()
            _call_all(self.on_lost)

    def _wake(self) -> None:
        for arrival in tuple(self._arrivals):
            arrival.set()

    # Ends.

    @property
    def idle(self) -> bool:
        """Whether nothing lives by it."""
        return not (self._nodes or self._doubts or self._arrivals)

    def end(self) -> Event:
        """End the session, so that nothing is left of it; the event is set when the server has heard. Idempotent."""
        return self._end_by(_dispose)

    async def desert(self) -> None:
        """End the connection and not the session: what lives by it ends when the ttl is over."""
        await self._end_by(_desert).wait(CLOSING_SECONDS)

    def _end_by(self, end: Callable[[KazooClient], None]) -> Event:
        done = self._runtime.event()
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is None:
            done.set()
            return done

        def run() -> None:
            end(client)
            done.set()

        try:
            client.handler.spawn(run)
        except RuntimeError:  # no thread can be started any more: the process is about to end
            done.set()
        return done

    def inherited(self) -> KazooClient | None:
        """In a forked child: the parent's client, to be kept and never touched."""
        return self._client


def _dispose(client: KazooClient) -> None:
    # Asked for by ourselves: kazoo 2.10 may stop before it has sent this, and the session would live on for a ttl.
    with suppress(Exception):
        if client.connected:
            client._call(CloseInstance, None)
        client.stop()
        client.close()


def _desert(client: KazooClient) -> None:
    with suppress(Exception):
        client._stopped.set()
        client._call(_CONNECTION_DROP, Reply(_ignore))  # kazoo has no other way to leave without a goodbye
        client._safe_close()
        client.close()


def _call_all(functions: Sequence[Callable[[], object]]) -> None:
    for fn in tuple(functions):
        fn()


def _ignore(_: Reply) -> None:
    pass
