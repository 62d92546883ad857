"""Asking the server for what is free, and who of this client has what."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from functools import partial

from locksmith.runtime import Runtime
from locksmith.store import Claim, Grant, Ticket
from locksmith_sql.postgresql.advisory.people import AdvisoryPeople
from locksmith_sql.postgresql.advisory.session import Hold, Session
from locksmith_sql.postgresql.advisory.sessions import Sessions
from locksmith_sql.postgresql.advisory.statements import AdvisoryStatements
from locksmith_sql.postgresql.base import micros
from locksmith_sql.postgresql.cells import hidden
from locksmith_sql.postgresql.errors import Broken, Refused, Trouble
from locksmith_sql.postgresql.url import Server
from locksmith_sql.postgresql.wire import Result


class Taking(AdvisoryPeople):
    """Locks that are taken at once."""

    def __init__(self, server: Server, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._server = server
        self._statements = AdvisoryStatements(namespace)
        self._sessions = Sessions(server, self._statements, runtime, self._alarm)
        self._link = self._sessions.link
        self._fresh()

    def _fresh(self) -> None:
        self._guard = threading.Lock()
        self._holds: dict[str, Hold] = {}
        # Those of this client that wait for a name: the first one does so on the server.
        self._lines: dict[str, list[Ticket]] = {}
        self._tombs: dict[str, float] = {}
        self._crowded: dict[str, float] = {}
        self._brief: set[str] = set()

    async def _try(self, claim: Claim) -> Grant | None:
        until = self._until
        lock = self._statements.lock(claim.key)
        again = False
        while True:
            session = await self._sessions.common(claim.ttl, until)
            hold = Hold(claim.owner, lock, session)
            with self._guard:
                if lock in session.holds or self._buried(claim.owner):
                    return None
                session.holds[lock] = self._holds[claim.owner] = hold
            try:
                _, since = await session.ask(
                    self._statements.take, self._terms(claim, lock), until, partial(self._hear, hold)
                )
            except Broken:
                # Whatever became of the request has ended with its session, of idleness as a rule.
                self._drop(session)
                if again:
                    raise
                again = True
                continue
            except Refused:
                with suppress(*Trouble):
                    await session.settle(until)
                raise
            return None if hold.over else Grant(claim, hold.token, claim.ttl, since)

    async def _again(self, claim: Claim) -> Grant | None:
        """What this owner has already: its answer was lost, or it asks again."""
        hold = self._holds.get(claim.owner)
        if hold is None:
            return None
        with suppress(Broken):
            _, since = await hold.session.ask(self._statements.alive, [], self._until)
            if self._buried(claim.owner):
                return None
            if not hold.over and hold.token:
                return Grant(claim, hold.token, claim.ttl, since)
        self._forget(hold)
        return None

    def _terms(self, claim: Claim, lock: bytes) -> list[bytes | None]:
        info = claim.info.encode("utf-8", "surrogatepass")
        return [lock, claim.key.encode(), hidden(claim.key, claim.name), claim.owner.encode(), micros(claim.ttl), info]

    def _hear(self, hold: Hold, result: Result | None) -> None:
        """What the server says to a request for a lock."""
        if result is None:
            # It may have the lock all the same, and have failed at what comes after: an error does not give it back.
            hold.session.litter.add(hold.lock)
            self._forget(hold)
        elif result.ntuples:
            hold.token = int(result.get_value(0, 0))
        else:
            self._forget(hold)

    def _forget(self, hold: Hold) -> None:
        hold.over = True
        if self._holds.get(hold.owner) is hold:
            del self._holds[hold.owner]
        if hold.session.holds.get(hold.lock) is hold:
            del hold.session.holds[hold.lock]

    def _drop(self, session: Session) -> None:
        """Forget what was in a session that has ended."""
        for hold in list(session.holds.values()):
            self._forget(hold)
        session.retire()

    @property
    def _until(self) -> float:
        return time.monotonic() + self._server.timeout

    def _buried(self, owner: str) -> bool:
        return self._tombs.get(owner, 0.0) > time.monotonic()

    def _alarm(self) -> None:
        if self.alarm is not None:
            self.alarm()
