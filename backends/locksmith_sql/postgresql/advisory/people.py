"""What people ask of session locks, and what these do not have."""

from __future__ import annotations

import time
from typing import Any

from locksmith import names
from locksmith.errors import ConfigurationError, StoreProtocolError
from locksmith.store import Finding, HolderView, Inspection, WaiterView
from locksmith_sql.postgresql.base import number, raw
from locksmith_sql.postgresql.doctor import facts, latency, role, room
from locksmith_sql.postgresql.errors import Trouble, translate
from locksmith_sql.postgresql.people import People
from locksmith_sql.postgresql.statements import MICROS
from locksmith_sql.postgresql.url import Server


class AdvisoryPeople(People):
    """Inspection and intervention. No cells: they are rows, and who wants rows does not want this mode."""

    _statements: Any
    _sessions: Any
    _server: Server

    async def inspect(self, name: str) -> Inspection:
        """See Store.inspect. Of waiters only the number of their session is known."""
        key = names.encode(name)
        result, _, _ = await self._ask(self._statements.inspect, [self._statements.lock(key), key.encode()])
        holders: list[HolderView] = []
        waiters: list[WaiterView] = []
        for at in range(result.ntuples):
            kind, owner, token, permits, since, left, info = (result.get_value(at, column) for column in range(7))
            who, age = owner.decode(), int(since) / MICROS
            if kind == b"w":
                waiters.append(WaiterView(who, int(permits), age, "{}"))
            elif not holders:  # the last row of this session; others it left behind
                text = raw(info).decode("utf-8", "replace")
                holders.append(HolderView(who, int(token), int(permits), age, int(left) / MICROS, text))
        token = holders[0].token if holders else 0
        return Inspection(name, 1 if holders or waiters else None, token, holders, waiters)

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict. Ends the holder's session: whatever else its client has in that one is lost, too."""
        lock = self._statements.lock(names.encode(name))
        result, _, again = await self._ask(self._statements.evict, [lock, number(token)])
        return again or (result.ntuples > 0 and result.get_value(0, 0) == b"t")

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose."""
        took, found = await facts(self._ask)
        version, standby, _, _, _, _, replicas, _, busy, most = found
        findings = [latency(took), Finding("ok", f"PostgreSQL {version}"), role(standby == "t")]
        if standby != "t":
            findings.append(await self._session())
        if int(replicas):
            what = f"{replicas} standby(s): a failover ends every lock, and two servers that both live grant twice"
            findings.append(Finding("warning", what, "leave mode=advisory out, or let the resource check tokens"))
        return [*findings, room(int(busy), int(most))]

    async def _session(self) -> Finding:
        try:
            session, _ = await self._sessions.spare(30.0, time.monotonic() + self._server.timeout)
        except (ConfigurationError, StoreProtocolError) as refused:
            return Finding("error", "session locks cannot be had here", str(refused))
        except Trouble as trouble:
            raise translate(trouble) from trouble
        self._sessions.take_back(session)
        return Finding("ok", "no pooler in between, and the server ends the sessions of clients that are silent")
