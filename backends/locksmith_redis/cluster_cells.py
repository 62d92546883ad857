"""Cells of a cluster: a cell and the name that guards it may lie on two nodes, and no script can look at both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from locksmith import names
from locksmith.errors import LeaseLost, StoreError, StoreUnavailable
from locksmith.store import ANY, Expect, Grant
from locksmith_redis.cells import Cells, guard_word
from locksmith_redis.cluster_base import ClusterAsking
from locksmith_redis.nodes import slot_of
from locksmith_redis.scripts import PIN, UNPIN, request, word

_TIME: Final = request(b"TIME")
PINNED: Final = 10.0
"""Seconds that a name is kept from others at most, while its holder writes a cell elsewhere."""
DRIFT: Final = 0.01
"""How much faster one node's clock may run than another's, or ours."""


class ClusterCells(ClusterAsking, Cells):
    """A guarded write to another slot takes two steps. First the guard's node makes sure that the grant is held, and
    that nobody else gets the name for a while, whatever becomes of the grant. Then the cell's node writes, unless that
    while has passed by its own clock. So between check and write there is no successor whose work could be undone.
    """

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        """See Store.put."""
        if guard is None or not self._apart(key, guard):
            return await self._put(key, value, expect, ttl, guard)
        async with self._pinned(key, guard) as until:
            return await self._put(key, value, expect, ttl, None, until)

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        """See Store.delete."""
        if guard is None or not self._apart(key, guard):
            return await self._delete(key, expect, guard)
        async with self._pinned(key, guard) as until:
            return await self._delete(key, expect, None, until)

    def _apart(self, key: str, guard: Grant) -> bool:
        return slot_of(self._keys.cell(names.encode(key))) != slot_of(self._keys.lock(guard.claim.key.encode() + b"}"))

    @asynccontextmanager
    async def _pinned(self, key: str, guard: Grant) -> AsyncIterator[int]:
        """The cell's node's microseconds until when nobody else gets the guard's name. Raises LeaseLost, StoreError."""
        now = self.runtime.clock.now
        places = self._keys.counted(guard.claim.key)
        began = now()
        pin, _, _ = await self._ask(PIN, places + word(guard_word(guard)) + word(b"%d" % (PINNED * 1e6)))
        if pin is None:
            raise LeaseLost(f"{guard.claim.name!r} is not held with token {guard.token} any more")
        try:
            yield await self._soon(key, until=began + PINNED * (1 - DRIFT))
        finally:
            # Where this fails the name is closed for the rest of the time.
            with suppress(StoreError):
                await self._ask(UNPIN, places + word(b"%d" % pin))

    async def _soon(self, key: str, until: float) -> int:
        """What the clock of a cell's node says, at the latest, at the moment `until` of ours."""
        seconds, micros = (await self._at(slot_of(self._keys.cell(names.encode(key))), _TIME))[0]
        left = (until - self.runtime.clock.now()) * (1 - DRIFT)
        if left <= 0:
            raise StoreUnavailable(f"cell {key!r} was not written in time, so nothing was written; try again")
        return int(seconds) * 1_000_000 + int(micros) + int(left * 1e6)
