"""The nodes of a cluster: which of them serves a slot, how that is found out, and requests that follow it around.

What a client has to do is that of the Redis documentation ("Redis cluster specification", clients' part): a table of
slots, taken from any node, corrected by MOVED, left alone by ASK, and taken anew when a node does not answer.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis import exceptions as driver

from locksmith.runtime import Runtime, drive
from locksmith_redis.link import Answer
from locksmith_redis.scripts import request
from locksmith_redis.server import Server, shown

SLOTS: Final = 16_384
Place = tuple[str, int]

_ASKING: Final = request(b"ASKING")
_TABLE: Final = request(b"CLUSTER", b"SLOTS")
_PAUSE: Final = 0.02
_SHARE: Final = 0.1


def slot_of(key: bytes) -> int:
    """The slot of the hash tag in a key of ours, or in a request that begins with one; CRC16 as Redis counts it."""
    start = key.index(b"{") + 1
    return binascii.crc_hqx(key[start : key.index(b"}", start)], 0) % SLOTS


class Node:
    """One server of the cluster."""

    def __init__(self, place: Place, server: Server, link: Any) -> None:
        self.place = place
        self.server = server
        self.link = link
        self.knows_scripts = False
        """Whether a batch may call scripts by their SHA; one that may not begins with a source."""

    @property
    def name(self) -> str:
        """For people."""
        return shown([self.place])


class Nodes:
    """The table of slots, and a link to each node."""

    def __init__(self, seeds: Sequence[Place], server: Server, runtime: Runtime) -> None:
        self._seeds = list(seeds)
        self._server = server
        self._runtime = runtime
        self._now = runtime.clock.now
        self.timeout = server.timeout
        self._closed = False
        self.fresh()
        if runtime.is_async:
            from locksmith_redis import link_async

            self._link: Any = link_async.AsyncLink
            self._ask_each: Any = link_async.ask_each
        else:
            from locksmith_redis import link

            self._link, self._ask_each = link.Link, link.ask_each

    def fresh(self) -> None:
        """Know nothing."""
        self._nodes: dict[Place, Node] = {}
        self._owners: list[Node | None] = [None] * SLOTS
        self._stale = True

    @property
    def open(self) -> Iterable[Node]:
        """The nodes that have a link."""
        return tuple(self._nodes.values())

    async def owner(self, slot: int) -> Node:
        """Who serves a slot, as far as we know. Raises the driver's errors where nobody can be asked."""
        if self._stale:
            await self.refresh()
        node = self._owners[slot]
        if node is None:
            raise driver.ClusterDownError(f"CLUSTERDOWN nobody serves hash slot {slot}")
        return node

    async def primaries(self) -> list[Node]:
        """All who serve slots, in a stable order."""
        if self._stale:
            await self.refresh()
        return sorted({node for node in self._owners if node is not None}, key=lambda node: node.place)

    async def refresh(self) -> None:
        """Take the table anew from whoever answers first. Raises the driver's errors where nobody does."""
        until = self._now() + self.timeout
        asked = [*dict.fromkeys((*(node.place for node in self._nodes.values()), *self._seeds))]
        failure: Exception = driver.ConnectionError("no node of the cluster was named")
        for place in asked:
            node = self._node(place)
            try:
                within = max(_SHARE, (until - self._now()) / 2)
                answer = (await self._settle(node.link.ask_all([_TABLE], within)))[0]
            except (driver.RedisError, OSError) as error:
                failure = error
                continue
            if isinstance(answer, Exception):
                failure = answer
                continue
            self._learn(place, answer[0])
            await self._forget()
            return
        raise failure

    def _learn(self, told_by: Place, table: list[Any]) -> None:
        owners: list[Node | None] = [None] * SLOTS
        for first, last, primary, *_ in table:
            # A node that does not know its own address leaves it out: it is the one we asked.
            host = primary[0].decode() if primary[0] else told_by[0]
            node = self._node((host, int(primary[1])))
            owners[first : last + 1] = [node] * (last + 1 - first)
        self._owners = owners
        self._stale = False

    async def _forget(self) -> None:
        """Let go of nodes that serve nothing any more: they would be asked for the table first, dead or not."""
        serving = {node.place for node in self._owners if node is not None}
        for place, node in list(self._nodes.items()):
            if place not in serving:
                self._nodes.pop(place, None)
                # Not closed: a request may be under way, with which the last of it goes.
                await self._settle(node.link.retire())

    def _node(self, place: Place) -> Node:
        node = self._nodes.get(place)
        if node is None:
            server = self._server.at(*place)
            node = self._nodes.setdefault(place, Node(place, server, self._link(server, self._now)))
            if self._closed:  # by somebody who has not seen this one
                node.link.refuse()
        return node

    def doubt(self) -> None:
        """A node did not answer, or sent us away: take the table anew before the next request."""
        self._stale = True

    # Requests.

    async def ask(self, slot: int, payload: bytes, source: tuple[bytes, ...] = ()) -> Answer:
        """The answer of whoever serves the slot. Raises the driver's errors.

        `source` are the parts of the same request with the script itself, for a node that does not know the script.

        A node that cannot be reached is asked once more, or its successor if there is one by then.
        """
        until = self._now() + self.timeout
        again = False
        known = None if self._stale else self._owners[slot]
        node, asking = known or await self.owner(slot), False
        while True:
            try:
                # As in `base`: a tuple from a blocking link, an awaitable from the other.
                answer: Any = self._send_asking(node, payload) if asking else node.link.ask(payload)
                reply, since, twice = answer if answer.__class__ is tuple else await answer
                return reply, since, again or twice
            except driver.NoScriptError:
                if not source:
                    raise
                payload, source = b"".join(source), ()
            except driver.ResponseError as error:
                node, asking = await self._sent_away(error, slot, node)
            except (driver.TimeoutError, driver.AuthenticationError):
                self.doubt()
                raise
            except (driver.ConnectionError, OSError):
                self.doubt()
                if again:
                    raise
                again = True
                node, asking = await self.owner(slot), False
            if self._now() >= until:
                raise driver.TimeoutError(f"the cluster went on sending us around for slot {slot}")

    async def _send_asking(self, node: Node, payload: bytes) -> Answer:
        asked: list[Answer | Exception] = await self._settle(node.link.ask_all([_ASKING, payload], self.timeout))
        if isinstance(asked[1], Exception):
            raise asked[1]
        return asked[1]

    async def _sent_away(self, error: driver.ResponseError, slot: int, node: Node) -> tuple[Node, bool]:
        """Where to ask instead, and whether with ASKING. Raises the error where it does not send us anywhere."""
        word, _, rest = str(error).partition(" ")
        if word == "TRYAGAIN":  # some of the keys have moved, and some not yet
            await self._runtime.sleep(_PAUSE)
            return node, False
        if word not in ("MOVED", "ASK"):
            raise error
        host, _, port = rest.partition(" ")[2].rpartition(":")
        target = self._node((host or node.place[0], int(port)))
        if word == "MOVED":
            self._owners[slot] = target
            self.doubt()
        return target, word == "ASK"

    async def ask_each(self, asks: dict[Node, list[bytes]], within: float) -> dict[Node, list[Answer | Exception]]:
        """The answers of several nodes, asked at once; errors stand in their place."""
        listed = [(node.link, payloads) for node, payloads in asks.items()]
        answers = await self._settle(self._ask_each(listed, within))
        return dict(zip(asks, answers, strict=True))

    async def _settle(self, reply: Any) -> Any:
        return await self._runtime.settle(reply)

    # Life.

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for node in self.open:
            await self._settle(node.link.close())

    def after_fork(self) -> None:
        """See Store.after_fork."""
        for node in self.open:
            node.link.after_fork()
        self.fresh()


class Shard:
    """An endpoint that leads to whichever node serves a slot now."""

    def __init__(self, nodes: Nodes, slot: int, runtime: Runtime) -> None:
        self._nodes = nodes
        self._slot = slot
        self._runtime = runtime
        self.timeout = nodes.timeout
        self.address = f"the node of slot {slot}"

    def open(self, seconds: float) -> Any:
        """See Endpoint.open."""
        work = self._open(seconds)
        return work if self._runtime.is_async else drive(work)

    async def _open(self, seconds: float) -> Any:
        node = await self._nodes.owner(self._slot)
        try:
            return await self._runtime.settle(node.server.open(seconds))
        except (driver.RedisError, OSError):
            self._nodes.doubt()
            raise
