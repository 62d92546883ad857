"""RedisClusterStore: claims on the nodes of a Redis Cluster. See docs/stores/redis-cluster.md for its promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import redis
import redis.asyncio
from redis import exceptions as driver

from locksmith import names
from locksmith.errors import ConfigurationError
from locksmith.runtime import Runtime
from locksmith.store import Claim, Grant, Ticket, Unknown, Word
from locksmith_redis import several, url
from locksmith_redis.claims import CHUNK, beat
from locksmith_redis.cluster_cells import ClusterCells
from locksmith_redis.cluster_people import ClusterPeople
from locksmith_redis.errors import translate
from locksmith_redis.link import Answer
from locksmith_redis.nodes import Node, Nodes, Place, Shard, slot_of
from locksmith_redis.scripts import Keys
from locksmith_redis.server import Server, shown
from locksmith_redis.store import NOWHERE, RedisStore, unavailable
from locksmith_redis.waiters import Waiters

PORT: Final = 6379
EXAMPLE: Final = "redis+cluster://host1:6379,host2:6379"
KEPT: Final = 60.0
"""Seconds for which a hub that nobody is led to any more is kept at least: somebody may be on the way to it."""


class RedisClusterStore(ClusterCells, ClusterPeople, RedisStore):
    """The single server's store, name by name on the node that has its slot. Pushes come from each of these nodes on a
    sharded channel of this client's.
    """

    def __init__(self, seeds: Sequence[Place], server: Server, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._keys = Keys(names.encode(namespace) if namespace else "")
        self._nodes = Nodes(seeds, server, runtime)
        self._server = server
        self._address = f"{'rediss' if 'SSL' in server.connection_class.__name__ else 'redis'}+cluster://{shown(seeds)}"
        # Where a command goes that concerns no key: always to the same node, so that its clock is always the same.
        self._home = slot_of(b"{%b:home}" % self._keys.prefix)
        self._hubs: dict[Place, tuple[int, Any]] = {}
        # And since when nobody is led to them any more.
        self._former_hubs: dict[Any, float] = {}
        self._closed = False
        if runtime.is_async:
            from locksmith_redis.hub_async import AsyncHub

            self._make_hub: Any = AsyncHub
        else:
            from locksmith_redis.hub import Hub

            self._make_hub = Hub

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        said = several.read(url, asynchronous=runtime.is_async, port=PORT, example=EXAMPLE)
        if said.path.strip("0") or said.options.get("db", "0").strip("0"):
            raise ConfigurationError(f"a cluster has no databases but 0: write {EXAMPLE}")
        return cls(said.hosts, said.server, runtime, namespace)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_client: a RedisCluster of redis-py. Connections of our own are made with its settings."""
        wanted: Any = redis.asyncio.RedisCluster if runtime.is_async else redis.RedisCluster
        if not isinstance(client, wanted):
            family = "redis.asyncio" if runtime.is_async else "redis"
            raise ConfigurationError(
                f"pass a {family}.RedisCluster here, not a {type(client).__name__} of another family"
            )
        manager: Any = client.nodes_manager
        nodes = list({**manager.startup_nodes, **manager.nodes_cache}.values())
        if runtime.is_async:
            server = url.of_settings(nodes[0].connection_class, nodes[0].connection_kwargs)
        else:
            # As its nodes' clients read them; nothing is opened by this.
            settings = dict(client.get_connection_kwargs())
            server = url.of_pool(redis.Redis(**{n: v for n, v in settings.items() if n != "retry"}).connection_pool)
        return cls([(node.host, int(node.port)) for node in nodes], server, runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return self._address

    # Waiting: a hub for each node.

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire."""
        # First without a place in line: whoever gets the name at once needs no subscription.
        reply = await self._acquire(claim, NOWHERE)
        if isinstance(reply, Grant) or not queue:
            return reply
        hub = await self._hub_of(claim.key.encode("ascii"))
        if not hub.ready:
            await self._start(hub)
        reply = await self._queue(hub, claim)
        if isinstance(reply, Ticket):
            reply.state = hub
        return reply

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        """See Store.takes_together: only where all names happen to share a slot, since a script runs on one node."""
        return len({slot_of(b"{%b}" % claim.key.encode("ascii")) for claim in claims}) == 1

    async def _hub_of(self, key: bytes) -> Any:
        """Where this client hears of a name: one subscribed connection for all names of the node that has its slot."""
        slot = slot_of(b"{%b}" % key)
        try:
            node = await self._nodes.owner(slot)
            known = self._hubs.get(node.place)
            # The slot of its channel may have moved away from that node, and pushes from there would not reach it.
            if known is not None and (await self._nodes.owner(known[0])).place == node.place:
                return known[1]
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error
        # A channel may be published to by scripts on the node of its slot; the name's own slot is there for sure.
        hub = self._make_hub(Shard(self._nodes, slot, self.runtime), Waiters(self._keys, key), self._recheck)
        if known is not None:
            self._former_hubs[known[1]] = self.runtime.clock.now()
            self._hubs[node.place] = slot, hub
        else:
            hub = self._hubs.setdefault(node.place, (slot, hub))[1]  # another thread may have been faster
        if self._closed:  # by somebody who has not seen this one, which refuses then
            await hub.close()
        await self._retire()
        return hub

    async def _retire(self) -> None:
        """End hubs of nodes that are gone and of channels that have moved, once nobody waits there."""
        here = {node.place for node in self._nodes.open}
        for place in list(self._hubs):
            if place not in here and (gone := self._hubs.pop(place, None)) is not None:
                self._former_hubs[gone[1]] = self.runtime.clock.now()
        before = self.runtime.clock.now() - KEPT - self._server.timeout
        for hub, since in list(self._former_hubs.items()):
            if since < before and not hub.waiters.any():
                self._former_hubs.pop(hub, None)
                await hub.close()

    @property
    def _every_hub(self) -> list[Any]:
        return [*(hub for _, hub in list(self._hubs.values())), *list(self._former_hubs)]

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """See Store.wait."""
        if ticket.inbox.peek() is None:
            await ticket.state.wait(ticket, timeout)

    def leave(self, ticket: Ticket) -> None:
        """See Store.leave."""
        if ticket.state is not None:
            ticket.state.waiters.leave(ticket)

    def _forget(self, owner: str) -> None:
        for hub in self._every_hub:
            hub.waiters.forget(owner)

    def _handed(self, ticket: Ticket, token: int) -> Grant:
        return Grant(ticket.claim, token, ticket.claim.waiter_ttl, ticket.word_at, confirmed=False)

    # A beat: one script for each slot, all those of a node in one write, all nodes at once.

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat."""
        items: list[Grant | Ticket] = [*grants, *tickets]
        until = self.runtime.clock.now() + within
        words: list[Word] = [Unknown(unavailable(driver.ConnectionError("not asked")))] * len(items)
        batches = await self._batches(items, words)
        asks = {
            node: self._payloads(node, [items_at(items, chunk) for chunk in chunks]) for node, chunks in batches.items()
        }
        for node, answers in (await self._nodes.ask_each(asks, within)).items():
            node.knows_scripts = not any(isinstance(answer, driver.NoScriptError) for answer in answers)
            for chunk, answer in zip(batches[node], answers, strict=True):
                some = items_at(items, chunk)
                if isinstance(answer, Exception):
                    self._nodes.doubt()
                refused = isinstance(answer, driver.ResponseError) and self.runtime.clock.now() < until
                heard = self._words(some, await self._once_more(some) if refused else answer)
                for at, word in zip(chunk, heard, strict=True):
                    words[at] = word
        return words

    async def _batches(self, items: list[Grant | Ticket], words: list[Word]) -> dict[Node, list[list[int]]]:
        """By node and slot, the places of items in the list; those that nobody serves are answered in `words`."""
        slots: dict[int, list[int]] = {}
        for at, item in enumerate(items):
            slots.setdefault(slot_of(b"{%b}" % item.claim.key.encode("ascii")), []).append(at)
        batches: dict[Node, list[list[int]]] = {}
        for slot, places in slots.items():
            try:
                node = await self._nodes.owner(slot)
            except (driver.RedisError, OSError) as error:
                for at in places:
                    words[at] = Unknown(unavailable(error))
                continue
            chunks = batches.setdefault(node, [])
            chunks += [places[at : at + CHUNK] for at in range(0, len(places), CHUNK)]
        return batches

    def _payloads(self, node: Node, chunks: list[list[Grant | Ticket]]) -> list[bytes]:
        return [beat(self._keys, chunk, source=not (at or node.knows_scripts)) for at, chunk in enumerate(chunks)]

    async def _once_more(self, items: list[Grant | Ticket]) -> Answer | Exception:
        """A part of a beat that was sent away, or whose script was not known: by itself, wherever it belongs."""
        slot = slot_of(b"{%b}" % items[0].claim.key.encode("ascii"))
        try:
            return await self._nodes.ask(slot, beat(self._keys, items, source=True))
        except (driver.RedisError, OSError) as error:
            return error

    # Life.

    async def close(self) -> None:
        """See Store.close."""
        self._closed = True
        for hub in self._every_hub:
            await hub.close()
        await self._nodes.close()

    def after_fork(self) -> None:
        """See Store.after_fork."""
        self._nodes.after_fork()
        for hub in self._every_hub:
            hub.after_fork()
        self._hubs = {}
        self._former_hubs = {}


def items_at(items: list[Grant | Ticket], places: list[int]) -> list[Grant | Ticket]:
    """Some of the items."""
    return [items[at] for at in places]
