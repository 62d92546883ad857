"""Cells: small shared values with a version, each written by one procedure (procedures.py)."""

from __future__ import annotations

from locksmith import names
from locksmith.errors import CellConflict, CellTooLarge, LeaseLost
from locksmith.store import ABSENT, ANY, MAX_CELL_BYTES, Cell, Expect, Grant, Store
from locksmith_sql.mysql.desk import Desk


class Cells(Store):
    """The part of the store that keeps cells."""

    _desk: Desk

    async def get(self, key: str) -> Cell | None:
        """See Store.get."""
        answer = await self._desk.ask(self._desk.sql.get, (names.encode(key),))
        for value, version in answer.reply.rows:
            return Cell(bytes(value), version)
        return None

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
        if len(value) > MAX_CELL_BYTES:
            raise CellTooLarge(f"a cell holds at most {MAX_CELL_BYTES} bytes, this value has {len(value)}")
        return await self._write(key, bytes(value), expect, None if ttl is None else int(ttl * 1e6), guard)

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        """See Store.delete."""
        return await self._write(key, None, expect, None, guard) != 0

    async def _write(
        self, key: str, value: bytes | None, expect: int | Expect, ttl: int | None, guard: Grant | None
    ) -> int:
        expected = expect if isinstance(expect, int) else {ANY: -1, ABSENT: -2}[expect]
        held = (guard.claim.key, guard.claim.owner, guard.token) if guard is not None else (None, None, None)
        where = names.encode(key)
        # Not sent twice where the first may have been carried out: our own version would be a conflict.
        written = None if value is None else value.hex()
        values = (where, original(where, key), written, ttl, expected, *held)
        answer = await self._desk.ask(self._desk.sql.write, values, repeat=False)
        code, version = answer.reply.rows[0]
        if code == 3 and guard is not None:
            raise LeaseLost(f"{guard.claim.name!r} is not held with token {guard.token} any more")
        if code == 2:
            raise CellConflict(f"cell {key!r} is at version {version}, expected {expect}", found=version)
        return int(version)

    async def now(self) -> int | None:
        """See Store.now: the server's wall clock."""
        answer = await self._desk.ask(self._desk.sql.now)
        return int(answer.reply.rows[0][0])


def original(key: str, name: str) -> str | None:
    """What to keep of a name beside its key, in hexadecimal digits: nothing unless the key only holds a hash."""
    return name.encode("utf-8", "surrogatepass").hex() if "~~" in key else None
