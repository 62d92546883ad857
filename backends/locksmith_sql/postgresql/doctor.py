"""What `diagnose` looks at: whatever could make this server break a promise."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from locksmith.store import Finding
from locksmith_sql.postgresql.statements import Statement

Ask = Callable[..., Awaitable[Any]]

_SLOW: Final = 0.05
_LONG: Final = 300
_ASKED: Final = Statement(
    "doctor",
    """SELECT current_setting('server_version'), pg_is_in_recovery(), current_setting('fsync'),
current_setting('full_page_writes'), current_setting('synchronous_commit'),
current_setting('synchronous_standby_names'),
(SELECT count(*) FROM pg_stat_replication),
(SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::bigint FROM pg_stat_activity
  WHERE state <> 'idle' AND datname = current_database() AND pid <> pg_backend_pid()),
(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), current_setting('max_connections')""",
)


async def examine(ask: Ask, link: Any) -> list[Finding]:
    """The findings, worst news and good news alike. Raises StoreError where the server cannot be asked at all."""
    took, found = await facts(ask)
    version, standby, fsync, pages, commit, names, replicas, longest, busy, most = found
    return [
        latency(took),
        Finding("ok", f"PostgreSQL {version}"),
        _pooler(link.pooled),
        role(standby == "t"),
        _disk(fsync == "on", pages == "on", commit),
        _replicas(int(replicas), names),
        _transactions(int(longest)),
        room(int(busy), int(most)),
    ]


async def facts(ask: Ask) -> tuple[float, list[str]]:
    """How long a round trip takes, and what the server says of itself."""
    await ask(_ASKED, [])  # connected, and prepared
    began = time.perf_counter()
    result, _, _ = await ask(_ASKED, [])
    took = time.perf_counter() - began
    return took, [result.get_value(0, at).decode() for at in range(10)]


def latency(took: float) -> Finding:
    """Whether the server is near."""
    what = f"a round trip takes {took * 1000:.1f} ms"
    if took > _SLOW:
        return Finding("warning", what, "keep every ttl well above several round trips")
    return Finding("ok", what)


def _pooler(pooled: bool | None) -> Finding:
    if pooled:
        return Finding(
            "warning",
            "there is a pooler in between, where LISTEN may not work: waiters ask again at intervals of up to 250 ms",
            "connect to the server itself, or say ?pooler=none if the pooler keeps a session for each client",
        )
    return Finding("ok", "no pooler in between: waiters are told at once")


def role(standby: bool) -> Finding:
    """Whether the server can grant anything."""
    if standby:
        return Finding("error", "this server is a standby", "connect to the primary: a standby cannot grant anything")
    return Finding("ok", "this server is a primary")


def _disk(fsync: bool, pages: bool, commit: str) -> Finding:
    if not fsync or not pages:
        setting = "fsync" if not fsync else "full_page_writes"
        return Finding("error", f"{setting} is off: a crash can forget grants or worse", f"set {setting} = on")
    if commit == "off":
        return Finding("ok", "synchronous_commit is off, which grants do not heed: they are on disk when answered")
    return Finding("ok", "every grant is on disk before it is answered")


def _replicas(count: int, names: str) -> Finding:
    if count and not names:
        return Finding(
            "warning",
            f"{count} standby(s) follow asynchronously: a failover can forget grants that were given just before it",
            "set synchronous_standby_names, or let the resource check fencing tokens",
        )
    return Finding("ok", "standbys confirm each grant" if count else "no standby: there is no failover")


def _transactions(seconds: int) -> Finding:
    if seconds > _LONG:
        return Finding(
            "warning",
            f"a transaction has been open for {seconds} s: rows that hand-offs leave behind cannot be cleaned up",
            "end it: long lines get slower for as long as it is open",
        )
    return Finding("ok", "no transaction has been open for long")


def room(busy: int, most: int) -> Finding:
    """Whether there are connections left."""
    if busy > most * 0.9:
        return Finding("warning", f"{busy} of {most} connections are in use", "raise max_connections, or use a pooler")
    return Finding("ok", f"{busy} of {most} connections are in use")
