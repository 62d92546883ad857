"""What people ask of a cluster: node by node where it is about many names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis import exceptions as driver

from locksmith.errors import StoreProtocolError
from locksmith.store import Finding, Page
from locksmith_redis.cluster_base import ClusterAsking
from locksmith_redis.diagnose import ALL_SERVERS, diagnose
from locksmith_redis.errors import translate
from locksmith_redis.link import Answer
from locksmith_redis.nodes import SLOTS, Node, slot_of
from locksmith_redis.people import People, key_of, named
from locksmith_redis.scripts import LIVE, request

_OLDEST = 7


class ClusterPeople(ClusterAsking, People):
    """Listing and diagnosis."""

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names: node after node. A name whose slot moves meanwhile may be missed, or listed twice."""

        async def scan(node: Node, place: str) -> tuple[list[str], str | None]:
            return await self._scan(partial(self._say, node), prefix, place, node)

        return await self._walk(scan, after)

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        """See Store.cells: as `names`."""

        async def scan(node: Node, place: str) -> tuple[list[str], str | None]:
            return await self._scan_cells(partial(self._say, node), prefix, place)

        return await self._walk(scan, after)

    async def _walk(
        self, scan: Callable[[Node, str], Awaitable[tuple[list[str], str | None]]], after: str | None
    ) -> Page:
        try:
            nodes = await self._nodes.primaries()
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error
        where, _, place = (after or "").partition("|")
        at = next((at for at, node in enumerate(nodes) if node.name >= where), len(nodes))
        if at == len(nodes):
            return Page([])
        found, cursor = await scan(nodes[at], place)
        if cursor is not None:
            return Page(found, f"{nodes[at].name}|{cursor}")
        return Page(found, f"{nodes[at + 1].name}|" if at + 1 < len(nodes) else None)

    async def _live(self, states: list[bytes], node: Any = None) -> list[str]:
        """As of one server, but a script may look at one slot only."""
        slots: dict[int, list[bytes]] = {}
        for state in states:
            slots.setdefault(slot_of(state), []).append(state)
        payloads: list[bytes] = []
        keys: list[list[str]] = []
        for some in slots.values():
            keys.append([key_of(self._keys, state) for state in some])
            places = [place for key in keys[-1] for place in self._keys.each(key)]
            words = request(b"%d" % len(places), *places).partition(b"\r\n")[2]
            payloads.append(LIVE.head(len(places) + 1, source=not payloads) + words)
        live: list[str] = []
        for some_keys, answer in zip(keys, await self._all_at(node, payloads), strict=True):
            if isinstance(answer, driver.ResponseError):
                continue  # its slot has moved away
            if isinstance(answer, Exception):
                raise translate(answer) from answer
            live += [named(key, stored) for key, stored in zip(some_keys, answer[0], strict=True) if stored is not None]
        return live

    async def _all_at(self, node: Node, payloads: list[bytes]) -> list[Answer | Exception]:
        if not payloads:
            return []
        return (await self._nodes.ask_each({node: payloads}, self._nodes.timeout))[node]

    async def _say(self, node: Node, *words: bytes) -> Any:
        """A command to this node. Raises StoreError."""
        try:
            return (await self.runtime.settle(node.link.ask(request(*words))))[0]
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose."""
        try:
            nodes = await self._nodes.primaries()
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error
        findings = [await self._judge_slots()]
        judges = (_judge_version, *ALL_SERVERS[1:], _judge_replicas)
        for node in nodes:
            theirs = await diagnose(partial(self._say, node), judges)
            findings += [Finding(each.level, f"{node.name}: {each.what}", each.advice) for each in theirs]
        return [*findings, await self._rehearse()]

    async def _judge_slots(self) -> Finding:
        try:
            said = str(await self._command(b"CLUSTER", b"INFO"), "utf-8", "replace").split()
        except StoreProtocolError as error:
            return Finding("error", f"this is no cluster: {error}", "use redis:// for a single server")
        if "cluster_state:ok" not in said or f"cluster_slots_ok:{SLOTS}" not in said:
            return Finding("error", "the cluster is not complete", "see CLUSTER INFO: some slots are not served")
        return Finding("ok", "every slot is served")


def _judge_version(info: dict[str, str]) -> Finding:
    text = info.get("redis_version", "?")
    if not text.partition(".")[0].isdigit() or int(text.partition(".")[0]) < _OLDEST:
        return Finding(
            "error", f"Redis {text} is too old", "use Redis 7 or later: waiters are told on sharded channels"
        )
    return Finding("ok", f"Redis {text}")


def _judge_replicas(info: dict[str, str]) -> Finding:
    count = int(info.get("connected_slaves", "0"))
    if not count:
        return Finding("warning", "no replica", "its names cannot be locked while this node is down: add one")
    return Finding(
        "warning",
        f"{count} replica(s) may lack the last grants when one takes over",
        "let the resource check fencing tokens, or use redis+sentinel:// with wait_replicas",
    )
