"""How the store asks a cluster: whichever node has the slot of the first key."""

from __future__ import annotations

from redis import exceptions as driver

from locksmith_redis.base import Asking
from locksmith_redis.errors import translate
from locksmith_redis.link import Answer
from locksmith_redis.nodes import Nodes, slot_of
from locksmith_redis.scripts import Script, request


class ClusterAsking(Asking):
    """Requests that follow their slot."""

    _nodes: Nodes
    _home: int
    """The slot that stands for requests without a key: always the same, so that its node's clock is always the same."""

    async def _ask(self, script: Script, tail: bytes) -> Answer:
        return await self._at(slot_of(tail), script.by_sha + tail, (script.by_source, tail))

    async def _ask_words(self, script: Script, *words: bytes) -> Answer:
        packed = request(*words).partition(b"\r\n")[2]
        by_source = (script.head(len(words), source=True), packed)
        return await self._at(slot_of(words[1]), script.head(len(words)) + packed, by_source)

    async def _ask_raw(self, payload: bytes) -> Answer:
        return await self._at(slot_of(payload) if b"{" in payload else self._home, payload)

    async def _at(self, slot: int, payload: bytes, source: tuple[bytes, ...] = ()) -> Answer:
        try:
            return await self._nodes.ask(slot, payload, source)
        except (driver.RedisError, OSError) as error:
            raise translate(error) from error
