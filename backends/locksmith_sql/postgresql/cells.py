"""Cells: small shared values with a version, in rows of their own."""

from __future__ import annotations

from locksmith import names
from locksmith.errors import CellConflict, CellTooLarge, LeaseLost
from locksmith.store import ABSENT, ANY, MAX_CELL_BYTES, Cell, Expect, Grant
from locksmith_sql.postgresql.base import Asking, micros, number, numbers, raw


class Cells(Asking):
    """The store's cells, and its clock."""

    async def get(self, key: str) -> Cell | None:
        result, _, _ = await self._ask(self._statements.get, [names.encode(key).encode()])
        if not result.ntuples:
            return None
        return Cell(raw(result.get_value(0, 0)), int(result.get_value(0, 1)))

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        """See Store.put. Where the answer is lost the outcome is unknown: this is never sent twice."""
        if len(value) > MAX_CELL_BYTES:
            raise CellTooLarge(f"a cell holds at most {MAX_CELL_BYTES} bytes, this value has {len(value)}")
        return await self._write(key, bytes(value), expect, None if ttl is None else micros(ttl), guard)

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        return await self._write(key, None, expect, None, guard) != 0

    async def _write(
        self, key: str, value: bytes | None, expect: int | Expect, ttl: bytes | None, guard: Grant | None
    ) -> int:
        where = names.encode(key)
        guarded: list[bytes | None] = [None, None, None]
        if guard is not None:
            guarded = [guard.claim.key.encode(), guard.claim.owner.encode(), number(guard.token)]
        params = [where.encode(), hidden(where, key), value, _expected(expect), ttl, *guarded]
        result, _, _ = await self._ask(self._statements.write, params, once=True)
        answer, *rest = numbers(result.get_value(0, 0))
        if answer >= 0:
            return answer
        if answer == -1 and guard is not None:
            raise LeaseLost(f"{guard.claim.name!r} is not held with token {guard.token} any more")
        found = rest[0] or None
        raise CellConflict(f"cell {key!r} is at version {found}, expected {expect}", found=found)

    async def now(self) -> int | None:
        result, _, _ = await self._ask(self._statements.now, [])
        return int(result.get_value(0, 0))


def hidden(key: str, name: str) -> bytes | None:
    """What to keep of a name beside its key: nothing unless the key only holds a hash."""
    return name.encode("utf-8", "surrogatepass") if "~~" in key else None


def _expected(expect: int | Expect) -> bytes | None:
    if isinstance(expect, int):
        return number(expect)
    return b"0" if expect is ABSENT else None
