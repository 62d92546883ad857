"""What all parts of the store stand on: its nodes, its sessions, and asking in them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from locksmith.errors import StoreError, StoreUnavailable
from locksmith.store import Claim, Grant, Store
from locksmith_zookeeper.errors import translate
from locksmith_zookeeper.line import Place, in_order
from locksmith_zookeeper.session import CLOSING_SECONDS, Answer, Session
from locksmith_zookeeper.spot import Spot
from locksmith_zookeeper.url import Server
from locksmith_zookeeper.waiters import Waiters
from locksmith_zookeeper.wire import CONTAINER, CreateContainer, Delete, Exists, GetChildren

PEOPLE_TTL: Final = 10.0
"""The ttl of the session for cells and inspection, which has no claims and so is never in danger."""
TOMBSTONE: Final = 60.0
"""Seconds an abandoned owner is refused: longer than a stalled request lives."""
IDLE: Final = 10.0
"""Seconds after its last use when the empty node of a name is deleted."""
UNUSED: Final = 60.0
"""Seconds after its last use when a session that nothing lives by may be ended, beyond the time of a request."""

_inherited: list[KazooClient | None] = []
"""Clients of a parent process: kept, so that collecting them does not close its connections."""


class Base(Store):
    """Nodes and sessions."""

    _server: Server
    _root: str
    _closed = False

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[float, Session] = {}
        self._tombstones: dict[str, float] = {}
        self._used: dict[str, float] = {}
        self._swept = self.runtime.clock.now()
        self._waiters = Waiters()

    # Places.

    def _parent(self, key: str) -> str:
        return f"{self._root}/lock/{key}"

    def _parents(self, path: str) -> list[Any]:
        """Requests that make all nodes above a path; those that are there already answer so."""
        steps = path.split("/")[1:-1]
        paths = [f"/{'/'.join(steps[: at + 1])}" for at in range(len(steps))]
        return [CreateContainer(path, b"", self._server.acl, CONTAINER) for path in paths]

    # Asking.

    def _until(self) -> float:
        return self.runtime.clock.now() + self._server.timeout

    def _session(self, ttl: float) -> Session:
        with self._lock:
            session = self._sessions.get(ttl)
            if session is None:
                if self._closed:
                    raise StoreUnavailable("ZooKeeper: the store was closed while this asked: connect again.")
                self._retire()
                session = self._sessions[ttl] = self._new_session(ttl)
            session.used = self.runtime.clock.now()
        return session

    def _retire(self) -> None:
        """End sessions that nothing lives by: ever new ttls make ever new ones, each with a connection and threads."""
        before = self.runtime.clock.now() - self._server.timeout - UNUSED
        for ttl, session in list(self._sessions.items()):
            if ttl and session.used < before and session.idle:
                del self._sessions[ttl]
                session.end()

    def _new_session(self, ttl: float) -> Session:
        session = Session(self._server, ttl or PEOPLE_TTL, self.runtime, strict=ttl > 0)
        session.on_connected.append(lambda: self._waiters.connected(session))
        session.on_connected.append(self._renew_soon)
        session.on_lost.append(lambda: self._waiters.lost(session))
        return session

    def _renew_soon(self) -> None:
        """Connected: what is held is asked about now, and not after the pause that follows a renewal that failed."""
        if self.alarm is not None:
            self.alarm()

    @property
    def _people(self) -> Session:
        """The session for what is not about a claim: asking in a claim's session would keep a silent holder alive."""
        return self._session(0.0)

    async def _ask(
        self,
        session: Session,
        *requests: Any,
        until: float,
        path: str,
        fine: tuple[type[Exception], ...] = (),
        unless: Callable[[], bool] | None = None,
    ) -> Answer:
        """The answers, among them errors that are `fine`; any other is raised. `unless`: see Session.ask."""
        answer = await session.ask(*requests, until=until, unless=unless)
        for value in answer.values:
            if isinstance(value, Exception) and not isinstance(value, fine):
                raise translate(value, path) from value
        return answer

    async def _answers(self, session: Session, *requests: Any, until: float, path: str) -> Answer:
        """The answers, where a node that is not there is one."""
        return await self._ask(session, *requests, until=until, path=path, fine=(NoNodeError,))

    async def _line(self, session: Session, parent: str, until: float, *before: Any) -> list[Place]:
        """The claims of a name, in order."""
        answer = await self._answers(session, *before, GetChildren(parent, None), until=until, path=parent)
        children = answer.values[-1]
        return [] if isinstance(children, NoNodeError) else in_order(children)

    async def _spot(self, grant: Grant, session: Session, until: float) -> Spot | None:
        """The node of a grant, as far as this token and this owner have one."""
        claim, known = grant.claim, grant.state
        if isinstance(known, Spot):
            return known if (known.owner, known.token) == (claim.owner, grant.token) else None
        parent = self._parent(claim.key)
        for place in await self._line(session, parent, until):
            if place.owner == claim.owner and (spot := await self._look(session, parent, place, until)):
                return spot if spot.token == grant.token else None
        return None

    async def _look(self, session: Session, parent: str, place: Place, until: float) -> Spot | None:
        """A node that was found in the list; None where it is gone by now."""
        path = f"{parent}/{place.node}"
        stat = (await self._answers(session, Exists(path, None), until=until, path=path)).values[0]
        if stat is None or isinstance(stat, Exception):
            return None
        return Spot(parent, place.node, place.owner, stat.czxid, stat.ephemeralOwner, session.asked_ttl, b"")

    # Leaving nothing behind.

    def _buried(self, claim: Claim) -> bool:
        return bool(self._tombstones) and self._tombstones.get(claim.owner, 0.0) > self.runtime.clock.now()

    def _bury(self, claim: Claim) -> None:
        now = self.runtime.clock.now()
        for owner, until in list(self._tombstones.items()):
            if until <= now:
                self._tombstones.pop(owner, None)
        self._tombstones[claim.owner] = now + TOMBSTONE

    def _tidy(self, session: Session) -> None:
        """Delete the empty nodes of names that were not used lately. Waits for nothing."""
        now = self.runtime.clock.now()
        if now < self._swept + IDLE:
            return
        self._swept = now
        for parent, used in list(self._used.items()):
            if used + IDLE < now:
                self._used.pop(parent, None)
                session.post(Delete(parent, -1))  # refused where it has children, which is well

    async def _tidy_up(self) -> None:
        """The same for all of them, and what they are in; before closing."""
        session = next((session for session in self._sessions.values() if session.connected), None)
        if session is None or not self._used:
            return
        paths = [*self._used, f"{self._root}/lock", self._root]
        self._used.clear()
        until = self.runtime.clock.now() + 1.0
        with suppress(StoreError):
            await session.hear(session.send([Delete(path, -1) for path in paths]), until)

    # Life.

    async def close(self) -> None:
        """See Store.close. From here on a request that comes late, the keeper's last one, makes no session any more."""
        with self._lock:
            self._closed = True
        await self._tidy_up()
        until = self.runtime.clock.now() + CLOSING_SECONDS
        # All at once: a server that is silent costs this time, and not so much for each session.
        for ended in [session.end() for session in list(self._sessions.values())]:
            await ended.wait(max(0.0, until - self.runtime.clock.now()))
        self._sessions.clear()
        self._waiters.clear()

    def after_fork(self) -> None:
        """See Store.after_fork. Kazoo's threads are not in this process; its sockets are the parent's."""
        _inherited.extend(session.inherited() for session in self._sessions.values())
        self._fresh()
