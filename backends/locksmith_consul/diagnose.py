"""What about an agent and its servers breaks promises: asked through py-consul, judged here."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from locksmith import names
from locksmith.errors import StoreAuthError, StoreError
from locksmith.store import Claim, Finding, Grant, Store

Driving = Callable[[Callable[[], Any]], Awaitable[Any]]

_OLDEST: Final = (1, 7)
_SLOW: Final = 0.05
_SURVIVING: Final = 3
_TTL: Final = 10.0


async def diagnose(store: Store, consul: Any, driving: Driving) -> list[Finding]:
    """The findings, worst news and good news alike. Raises StoreError where the agent cannot be asked at all."""
    began = time.perf_counter()
    leader = await driving(consul.status.leader)
    findings = [_latency(time.perf_counter() - began), _leader(leader)]
    findings.append(_servers(await driving(consul.status.peers)))
    try:
        findings += _agent(await driving(consul.agent.self))
    except StoreAuthError:
        advice = "give the token agent:read to learn more from this probe"
        findings.append(Finding("warning", "the agent's version and settings may not be read", advice))
    return [*findings, await _rehearse(store)]


def _latency(took: float) -> Finding:
    what = f"a round trip takes {took * 1000:.1f} ms"
    if took > _SLOW:
        return Finding("warning", what, "keep every ttl well above several round trips")
    return Finding("ok", what)


def _leader(leader: str) -> Finding:
    if not leader:
        return Finding("error", "the servers have no leader", "nothing can be granted until they have elected one")
    return Finding("ok", f"the leader is {leader}")


def _servers(peers: list[str]) -> Finding:
    count = len(peers)
    if count < _SURVIVING:
        what = f"{count} server(s): the loss of one stops everything until it is back"
        return Finding("warning", what, "run three or five servers; grants survive all the same, they are on disk")
    return Finding("ok", f"{count} servers: grants survive the loss of {(count - 1) // 2}")


def _agent(said: dict[str, Any]) -> list[Finding]:
    config = said.get("Config") or {}
    text = str(config.get("Version", "?"))
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    version = Finding("ok", f"Consul {text}")
    if numbers and numbers < _OLDEST:
        version = Finding("error", f"Consul {text} is too old", "use Consul 1.7 or later")
    return [version, _least(str((said.get("DebugConfig") or {}).get("SessionTTLMin", "")))]


def _least(least: str) -> Finding:
    # A server that was not told otherwise says "0s" and means ten seconds.
    shown = least if least not in ("", "0s") else f"{_TTL:.0f}s"
    return Finding("ok", f"no ttl is shorter than {shown}, and any may last twice as long; lease.ttl tells the truth")


async def _rehearse(store: Store) -> Finding:
    name = f"doctor {os.urandom(8).hex()}"
    claim = Claim(name, names.encode(name), os.urandom(16).hex(), _TTL, 1, 1, _TTL, 0.0, "{}")
    waiter = claim._replace(owner=os.urandom(16).hex())
    try:
        grant = await store.acquire(claim, queue=False)
        await store.acquire(waiter, queue=True)
        if isinstance(grant, Grant):
            await store.release(grant)
        await store.abandon(waiter, tombstone=False)
    except StoreAuthError as error:
        return Finding("error", f"something is not permitted: {error}", "see the policy in docs/stores/consul.md")
    except StoreError as error:
        return Finding("error", f"taking and handing over a name failed: {error}", "see there")
    return Finding("ok", "a name can be taken, waited for and handed over")
