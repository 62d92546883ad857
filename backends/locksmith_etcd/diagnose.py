"""What in an etcd breaks promises, or soon will."""

from __future__ import annotations

from typing import Any, Final

from locksmith.errors import StoreAuthError, StoreError
from locksmith.store import Finding
from locksmith_etcd import rpc
from locksmith_etcd.channels import ALARM, MEMBERS, STATUS
from locksmith_etcd.leases import Leases
from locksmith_etcd.link import Link

_OLDEST: Final = (3, 4)
_SLOW: Final = 0.05
_LARGE: Final = 1024**3
_LONG: Final = 5.0


async def diagnose(link: Link, leases: Leases) -> list[Finding]:
    """Findings about the cluster. Raises StoreError where it cannot be asked."""
    reply = await link.ask(STATUS, rpc.StatusRequest())
    status, took = reply.message, link.now() - reply.since
    findings = [_latency(took), _version(status.version), _leader(status), _size(status.dbSize)]
    for ask in (_members, _alarms):
        try:
            findings.append(await ask(link))
        except StoreAuthError as error:
            findings.append(Finding("warning", f"could not look further: {error}", "only root may ask some of this"))
    return [*findings, await _least_ttl(leases)]


def _latency(took: float) -> Finding:
    what = f"a round trip takes {took * 1000:.1f} ms"
    if took > _SLOW:
        return Finding("warning", what, "keep every ttl well above several round trips")
    return Finding("ok", what)


def _version(text: str) -> Finding:
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        return Finding("error", f"etcd {text} is too old", "use etcd 3.4 or later")
    return Finding("ok", f"etcd {text}")


def _leader(status: Any) -> Finding:
    if not status.leader:
        return Finding("error", "this member sees no leader", "nothing is granted until a majority is back")
    return Finding("ok", "there is a leader")


def _size(size: int) -> Finding:
    what = f"the database has {size / 1024**2:.0f} MB"
    if size > _LARGE:
        return Finding("warning", what, "turn on auto-compaction: at its quota etcd refuses every write")
    return Finding("ok", what)


async def _members(link: Link) -> Finding:
    count = len((await link.ask(MEMBERS, rpc.MemberListRequest())).message.members)
    if count < 3:
        return Finding("warning", f"{count} member(s): a crash stops every grant", "run three or five members")
    return Finding("ok", f"{count} members")


async def _alarms(link: Link) -> Finding:
    raised = (await link.ask(ALARM, rpc.AlarmRequest())).message.alarms
    if raised:
        kinds = ", ".join(sorted({rpc.AlarmMember.AlarmType.Name(alarm.alarm) for alarm in raised}))
        return Finding("error", f"alarm: {kinds}", "compact, defragment, then `etcdctl alarm disarm`")
    return Finding("ok", "no alarms")


async def _least_ttl(leases: Leases) -> Finding:
    try:
        lease = await leases.grant(1, 5.0)
    except StoreError as error:
        return Finding("error", f"no lease is granted: {error}", "see there")
    await leases.revoke(lease.id)
    what = f"the smallest ttl is {lease.ttl:g} s; smaller ones are rounded up"
    if lease.ttl > _LONG:
        return Finding("warning", what, "it is half as much again as --election-timeout")
    return Finding("ok", what)
