"""Cells: one string each, version and writer before the value."""

from __future__ import annotations

import math
import os
from typing import Any

from locksmith import names
from locksmith.errors import CellConflict, CellTooLarge, LeaseLost, LocksmithError, StoreProtocolError, StoreUnavailable
from locksmith.store import ABSENT, ANY, MAX_CELL_BYTES, Cell, Expect, Grant
from locksmith_redis.base import Asking
from locksmith_redis.scripts import DELETE, PUT

_HEADER = 32


class Cells(Asking):
    """The store's cells, and its clock."""

    async def get(self, key: str) -> Cell | None:
        """See Store.get."""
        found = await self._command(b"GET", self._keys.cell(names.encode(key)))
        if found is None:
            return None
        if len(found) < _HEADER or not found[:16].isdigit():
            raise StoreProtocolError(f"the key of cell {key!r} holds something else; choose another namespace.")
        return Cell(found[_HEADER:], int(found[:16]))

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        """See Store.put. Its writer's nonce makes a request that is sent twice write once."""
        return await self._put(key, value, expect, ttl, guard)

    async def _put(
        self, key: str, value: bytes, expect: int | Expect, ttl: float | None, guard: Grant | None, until: int = 0
    ) -> int:
        """`until`: the server's microseconds after which nothing is written any more."""
        if len(value) > MAX_CELL_BYTES:
            raise CellTooLarge(f"a cell holds at most {MAX_CELL_BYTES} bytes, this value has {len(value)}")
        cell = self._keys.cell(names.encode(key))
        milliseconds = 0 if ttl is None else max(1, math.ceil(ttl * 1000))
        reply, _, _ = await self._ask_words(
            PUT,
            *self._places(cell, guard),
            os.urandom(8).hex().encode(),
            value,
            _expected(expect),
            b"%d" % milliseconds,
            guard_word(guard),
            b"%d" % until if until else b"",
        )
        if isinstance(reply, int):
            return reply
        raise _refusal(key, reply, expect, guard)

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        """See Store.delete. "There is none" by a second request means that the first, unanswered one deleted it."""
        return await self._delete(key, expect, guard)

    async def _delete(self, key: str, expect: int | Expect, guard: Grant | None, until: int = 0) -> bool:
        cell = self._keys.cell(names.encode(key))
        late = b"%d" % until if until else b""
        reply, _, again = await self._ask_words(
            DELETE, *self._places(cell, guard), _expected(expect), guard_word(guard), late
        )
        if isinstance(reply, int):
            return again or reply == 1
        if again and reply == [-2, 0]:
            return True
        raise _refusal(key, reply, expect, guard)

    async def now(self) -> int | None:
        """See Store.now."""
        seconds, micros = await self._command(b"TIME")
        return int(seconds) * 1_000_000 + int(micros)

    def _places(self, cell: bytes, guard: Grant | None) -> list[bytes]:
        if guard is None:
            return [b"1", cell]
        return [b"5", cell, *self._keys.each(guard.claim.key)]


def _expected(expect: int | Expect) -> bytes:
    if isinstance(expect, int):
        return b"%d" % expect
    return b"-" if expect is ABSENT else b"*"


def guard_word(guard: Grant | None) -> bytes:
    """A grant as the scripts know it."""
    return b"" if guard is None else b"%016d%b" % (guard.token, guard.claim.owner.encode())


def _refusal(key: str, reply: list[Any], expect: int | Expect, guard: Grant | None) -> LocksmithError:
    if reply[0] == -3:
        return StoreUnavailable(f"cell {key!r} was not written in time, so nothing was written; try again")
    if reply[0] == -1 and guard is not None:
        return LeaseLost(f"{guard.claim.name!r} is not held with token {guard.token} any more")
    found = reply[1] or None
    return CellConflict(f"cell {key!r} is at version {found}, expected {expect}", found=found)
