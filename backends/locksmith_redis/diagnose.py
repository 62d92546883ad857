"""What about a server breaks promises: asked with INFO and CONFIG GET, judged here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from locksmith.errors import StoreAuthError, StoreProtocolError
from locksmith.store import Finding

Command = Callable[..., Awaitable[Any]]

_OLDEST: Final = (6, 0)
_NEAR_FULL: Final = 0.9
_SLOW: Final = 0.05


Judge = Callable[[dict[str, str]], Finding]


async def diagnose(command: Command, judges: Sequence[Judge] | None = None) -> list[Finding]:
    """The findings about one server, worst news and good news alike. Raises StoreError where it cannot be asked at all.

    `judges`: who looks at its INFO, where that is not a server alone.
    """
    began = time.perf_counter()
    await command(b"TIME")
    took = time.perf_counter() - began
    findings = [_latency(took)]
    try:
        info = _parse(await command(b"INFO"))
    except (StoreAuthError, StoreProtocolError):
        return [*findings, Finding("warning", "INFO is not permitted", "allow +info to learn more from this probe")]
    findings += [judge(info) for judge in (judges or (*ALL_SERVERS, _role, _cluster))]
    return findings + await _disk(command, info)


def _parse(raw: bytes | str) -> dict[str, str]:
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _latency(took: float) -> Finding:
    what = f"a round trip takes {took * 1000:.1f} ms"
    if took > _SLOW:
        return Finding("warning", what, "keep every ttl well above several round trips")
    return Finding("ok", what)


def _version(info: dict[str, str]) -> Finding:
    text = info.get("redis_version", "?")
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if numbers and numbers < _OLDEST:
        return Finding("error", f"Redis {text} is too old", "use Redis 6 or later")
    return Finding("ok", f"Redis {text}")


def _role(info: dict[str, str]) -> Finding:
    if info.get("role") == "slave":
        return Finding("error", "this server is a replica", "connect to the primary: a replica cannot grant anything")
    count = int(info.get("connected_slaves", "0"))
    if count:
        return Finding(
            "warning",
            f"{count} replica(s) follow asynchronously: a failover can forget grants that were given just before it",
            "let the resource check fencing tokens, or use a store that declares SURVIVES_FAILOVER",
        )
    return Finding("ok", "no replicas: there is no failover that could forget a grant")


def _cluster(info: dict[str, str]) -> Finding:
    if info.get("cluster_enabled") == "1":
        return Finding("error", "this is a node of a Redis Cluster", "write redis+cluster:// in the URL")
    return Finding("ok", "not a cluster")


def _memory(info: dict[str, str]) -> Finding:
    policy = info.get("maxmemory_policy", "noeviction")
    limited = info.get("maxmemory", "0") != "0"
    if policy == "noeviction":
        return Finding("ok", "no key is evicted")
    if limited:
        return Finding("error", f"{policy} evicts locks that are held", "set maxmemory-policy noeviction")
    return Finding("warning", f"{policy} would evict locks once maxmemory is set", "set maxmemory-policy noeviction")


def _room(info: dict[str, str]) -> Finding:
    used, limit = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    if limit and used > limit * _NEAR_FULL:
        return Finding("warning", f"{used / limit:.0%} of maxmemory is used", "raise it: a full server grants nothing")
    return Finding("ok", "memory is not near its limit")


ALL_SERVERS: Final = (_version, _memory, _room)


async def _disk(command: Command, info: dict[str, str]) -> list[Finding]:
    """Persistence decides whether a restart forgets grants."""
    advice = "with appendonly yes and appendfsync always a restart forgets nothing"
    if info.get("aof_enabled") != "1":
        return [Finding("warning", "a restart forgets grants of the last minutes, or all of them", advice)]
    try:
        reply = await command(b"CONFIG", b"GET", b"appendfsync")
    except (StoreAuthError, StoreProtocolError):
        return [Finding("ok", "changes are written to an append-only file; how soon cannot be asked")]
    policy = reply[1].decode() if len(reply) > 1 else "?"
    if policy == "always":
        return [Finding("ok", "every change is on disk before it is answered")]
    lost = "the last second" if policy == "everysec" else "up to half a minute"
    return [Finding("warning", f"a crash forgets grants of {lost} (appendfsync {policy})", advice)]
