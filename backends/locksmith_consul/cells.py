"""Cells: one key each. Its ModifyIndex is its version; a ttl is a session of its own that nobody renews."""

from __future__ import annotations

import os
from typing import Final

from locksmith.errors import CellConflict, CellTooLarge, LeaseLost, StoreUnavailable
from locksmith.store import ABSENT, ANY, MAX_CELL_BYTES, Cell, Expect, Grant
from locksmith_consul.base import Entry, Outcome, entries, index_of
from locksmith_consul.board import LATER
from locksmith_consul.claims import value_of
from locksmith_consul.keys import Op, base64, op
from locksmith_consul.sessions import Sessions

LONGEST_WATCH: Final = 10.0
"""Seconds of one blocking query: after that we know that the agent lives."""
_VALUE: Final = "v"
_NO_VERSION: Final = 2**63
_TREE, _GUARD = 0, 1


class Cells(Sessions):
    """The store's cells."""

    async def get(self, key: str) -> Cell | None:
        """See Store.get."""
        return _cell(await self._tree(self._keys.cell(key)))

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        """See Store.put. Its writer's nonce, in the key's Flags, tells a request that was sent twice from another's."""
        if len(value) > MAX_CELL_BYTES:
            raise CellTooLarge(f"a cell holds at most {MAX_CELL_BYTES} bytes, this value has {len(value)}")
        place = self._keys.cell(key) + _VALUE
        nonce = int.from_bytes(os.urandom(7)) or 1
        session = "" if ttl is None else (await self._make_enough(ttl))
        write = op("lock" if session else "set", place, base64(value), session=session, flags=nonce)
        # Deleted first: what is merely set again keeps the session, and with it the ttl, of the last one.
        outcome = await self._transact([*self._conditions(key, expect, guard), op("delete", place), write])
        if outcome.done is not None:
            await self._end_old(place, outcome.done[:-1])
            return int(outcome.done[-1]["ModifyIndex"])
        found = await self._tree(self._keys.cell(key))
        if outcome.again and found and found[0]["Flags"] == nonce:
            return int(found[0]["ModifyIndex"])
        if session:
            await self._destroy(session)
        raise self._refusal(key, outcome, found, expect, guard)

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        """See Store.delete. "There is none" by a second request means that the first, unanswered one deleted it."""
        place = self._keys.cell(key) + _VALUE
        outcome = await self._transact([*self._conditions(key, expect, guard), op("delete", place)])
        if outcome.done is not None:
            return await self._end_old(place, outcome.done) or outcome.again
        found = await self._tree(self._keys.cell(key))
        if outcome.again and not found and isinstance(expect, int):
            return True
        raise self._refusal(key, outcome, found, expect, guard)

    async def changed(self, key: str, seen: int, wait: float) -> int:
        """See Store.changed: by blocking queries, whose connections are the callers' own."""
        clock = self.runtime.clock
        deadline = clock.now() + wait
        target = self._reading(self._keys.cell(key), "recurse")
        index = 0
        while True:
            left = max(0.0, min(LONGEST_WATCH, deadline - clock.now()))
            waiting = f"&index={index}&wait={left * 1000:.0f}ms" if index and left > 0 else ""
            reply = await self._wait(f"{target}{waiting}", left * LATER)
            cell = _cell(entries(reply))
            version = cell.version if cell else 0
            if version != seen or clock.now() >= deadline:
                return version
            last, index = index, index_of(reply)
            if index < last:
                index = 0
            elif waiting:
                # What happens to keys beside an absent one wakes us as well: not more often than this.
                await self.runtime.sleep(min(0.01, max(0.0, deadline - clock.now())))

    async def _make_enough(self, ttl: float) -> str:
        return (await self._make(self._span(ttl))).id

    def _conditions(self, key: str, expect: int | Expect, guard: Grant | None) -> list[Op]:
        """What must be so, after a look at what is there."""
        ops = [op("get-tree", self._keys.cell(key))]
        if guard is not None:
            # A claim's key is written once: this index is its holder's token, and the key ends with the session.
            ops.append(op("check-index", self._keys.claim(guard.claim), index=guard.token))
        place = self._keys.cell(key) + _VALUE
        if isinstance(expect, int):
            # No version is 0, so that what cannot be one is never found.
            ops.append(op("check-index", place, index=expect if 0 < expect < _NO_VERSION else 0))
        elif expect is ABSENT:
            ops.append(op("check-not-exists", place))
        return ops

    def _refusal(
        self, key: str, outcome: Outcome, found: list[Entry], expect: int | Expect, guard: Grant | None
    ) -> CellConflict | LeaseLost | StoreUnavailable:
        if guard is not None and _GUARD in outcome.failed:
            return LeaseLost(f"{guard.claim.name!r} is not held with token {guard.token} any more")
        if expect is ANY:
            return StoreUnavailable(f"Consul: {', '.join(outcome.failed.values())}; try again.")
        version = found[0]["ModifyIndex"] if found else None
        return CellConflict(f"cell {key!r} is at version {version}, expected {expect}", found=version)

    async def _end_old(self, place: str, found: list[Entry]) -> bool:
        """Whether there was a cell. The session of its ttl has nothing more to do, and would live on for that long."""
        # Among what a transaction tells is also the key of its guard, whose session is very much needed.
        old = [entry for entry in found if entry["Key"] == place]
        for session in {str(entry["Session"]) for entry in old if entry.get("Session")}:
            await self._destroy(session)
        return bool(old)


def _cell(found: list[Entry]) -> Cell | None:
    return Cell(value_of(found[0]), found[0]["ModifyIndex"]) if found else None
