"""Sessions: what claims live by. One for each ttl, renewed by the keeper's beats and by whoever acquires.

Without health checks, the usual serfHealth included: a session of ours ends when nobody renews it, and not because the
servers lost sight of the agent it was made through for a moment.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final
from uuid import UUID

from locksmith.errors import InvalidTTL, StoreError, StoreProtocolError, StoreUnavailable
from locksmith.runtime import Event
from locksmith_consul.base import Asking, parsed
from locksmith_consul.errors import refused
from locksmith_consul.http import NOT_FOUND, OK

FRESH: Final = 4
"""A session is renewed by an acquire when its last word is older than this part of its ttl."""
ENDED: Final = 2
"""A session that was silent for so many times its ttl has ended, unless its servers are in trouble."""
_LIMITS: Final = re.compile(r"must be between \[([^=\]]+)=([^\]]+)\]")
_SPAN: Final = re.compile(r"([\d.]+)(h|ms|m|µs|us|s)")
_UNITS: Final = {"h": 3_600_000.0, "m": 60_000.0, "s": 1000.0, "ms": 1.0, "µs": 0.001, "us": 0.001}


class Session:
    """One session, as far as we know of it."""

    __slots__ = ("id", "since", "ttl")

    def __init__(self, id_: str, ttl: float, since: float) -> None:
        self.id = id_
        self.ttl = ttl
        """Seconds that it outlives its last word, at least: the server may take twice as long."""
        self.since = since
        """The runtime's clock, read before the last answered word was sent."""


class Sessions(Asking):
    """The sessions of one client."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._least = 0
        self._forget_sessions()

    def _forget_sessions(self) -> None:
        self._classes: dict[int, Session] = {}
        self._known: dict[str, Session] = {}
        self._opening: dict[int, Event] = {}

    async def _current(self, ttl: float) -> Session:
        """The session of this ttl: alive at its last word, which is not old. Raises InvalidTTL and StoreError."""
        while True:
            span = self._span(ttl)
            session = self._classes.get(span)
            if session is not None and self.runtime.clock.now() - session.since < session.ttl / FRESH:
                return session
            mine = self.runtime.event()
            try:
                # Within the `try`: what a Ctrl-C left noted here would be waited for by everybody, for ever.
                other = self._opening.setdefault(span, mine)
                if other is not mine:
                    await other.wait(self._server.timeout)
                    continue
                if session is None or not await self._renew(session):
                    session = await self._make(span)
                    self._forget_silent()
                    self._known[session.id] = session
                    self._classes[self._span(session.ttl)] = session
                return session
            finally:
                if self._opening.get(span) is mine:
                    del self._opening[span]
                mine.set()

    def _span(self, ttl: float) -> int:
        """The milliseconds a session must be asked for."""
        return max(math.ceil(round(ttl * 1000, 3)), self._least)

    async def _make(self, span: int) -> Session:
        """A new session, which nobody knows yet. The smallest ttl that the server allows is remembered."""
        since = self.runtime.clock.now()
        wanted = {
            "Name": "locksmith",
            "TTL": f"{span}ms",
            "Behavior": "delete",
            "LockDelay": "0s",
            "Checks": [],
            "NodeChecks": [],
        }
        reply = await self._ask("PUT", f"/v1/session/create{self._query}", json.dumps(wanted).encode("ascii"))
        if reply.code == OK:
            return Session(_id(parsed(reply)), span / 1000, since)
        limits = _LIMITS.search(reply.body)
        if limits is None:
            raise refused(reply.code, reply.body)
        least, most = _milliseconds(limits[1]), _milliseconds(limits[2])
        if span > most:
            raise InvalidTTL(f"this server keeps at most {most / 1000:.0f} seconds, not {span / 1000}")
        if least <= span:
            raise StoreProtocolError(f"Consul: {reply.body}; check that server and version belong together.")
        self._least = least
        return await self._make(least)

    async def _renew(self, session: Session, seconds: float | None = None) -> bool:
        """Say that we are alive. False: the session has ended, and everything that lived by it."""
        reply = await self._ask("PUT", f"/v1/session/renew/{session.id}{self._query}", b"", seconds)
        if reply.code == NOT_FOUND:
            self._bury(session)
            return False
        if reply.code != OK:
            raise refused(reply.code, reply.body)
        session.since = max(session.since, reply.since)
        return True

    def _bury(self, session: Session) -> None:
        self._known.pop(session.id, None)
        for span, known in list(self._classes.items()):
            if known is session:
                self._classes.pop(span, None)

    def _forget_silent(self) -> None:
        """Forget the sessions that ended because nobody renewed them: ever new ttls make ever new ones."""
        now = self.runtime.clock.now()
        for session in list(self._known.values()):
            if -math.inf < session.since < now - ENDED * session.ttl:
                self._bury(session)

    async def _destroy(self, session_id: str) -> bool:
        """End a session now, with what lives by it. False: that cannot be said now, so that its ttl says it."""
        try:
            await self._driving(lambda: self._driver.session.destroy(session_id))
        except StoreError as error:
            return not isinstance(error, StoreUnavailable)
        return True

    async def _end_sessions(self) -> None:
        self._forget_silent()
        mine = list(self._classes.values())
        self._forget_sessions()
        for session in mine:
            if not await self._destroy(session.id):
                return  # each would cost its time in vain


def _id(said: Any) -> str:
    try:
        return str(UUID(said["ID"]))  # it goes into paths and operations as it is
    except (LookupError, TypeError, ValueError) as wrong:
        raise StoreProtocolError("Consul: that is no session; check that the URL leads to an agent.") from wrong


def _milliseconds(span: str) -> int:
    """A duration as Go writes it: "10s", "24h0m0s", "200ms"."""
    return math.ceil(sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(span)))
