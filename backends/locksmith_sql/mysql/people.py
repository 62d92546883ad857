"""What people see: holders and waiters of a name, names, and the findings of the doctor. Nothing is changed here."""

from __future__ import annotations

from typing import Any, Final

from locksmith import names
from locksmith.store import Finding, HolderView, Inspection, Page, Store, WaiterView
from locksmith_sql.mysql import doctor
from locksmith_sql.mysql.desk import Desk

PAGE: Final = 500
# After every character that a key can have.
_END: Final = "\x7f"


class People(Store):
    """The part of the store that answers people."""

    _desk: Desk

    async def inspect(self, name: str) -> Inspection:
        """See Store.inspect: one statement, one moment. What is due is left out, not expired."""
        key = names.encode(name)
        answer = await self._desk.ask(self._desk.sql.inspect, (key, key, key))
        rows = answer.reply.rows
        if not rows:
            return Inspection(name, None, 0)
        _, _, owner, limit, token, ends, age, closed, info = rows[0]
        holders = [_holder(row) for row in rows if row[0] == 1 and row[5] > 0]
        if owner is not None and ends > 0:
            holders.append(HolderView(owner, token, 1, age / 1e6, ends / 1e6, info))
        waiters = [WaiterView(row[2], row[3], row[6] / 1e6, row[8]) for row in rows if row[0] == 2 and row[5] > 0]
        live = bool(holders or waiters)
        return Inspection(name, limit if live else None, token, holders, waiters, max(0, closed) / 1e6)

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names, in the order of keys."""
        return await self._list(self._desk.sql.names, prefix, after)

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        """See Store.cells, in the order of keys."""
        return await self._list(self._desk.sql.cells, prefix, after)

    async def _list(self, statement: str, prefix: str, after: str | None) -> Page:
        # Keys begin as their names do, up to where long ones are cut and hashed; dots alone are written otherwise.
        begin = names.encode(prefix)[:64] if prefix.strip(".") else ""
        start = begin[:-1] + chr(ord(begin[-1]) - 1) + _END if begin else ""
        values = (start if after is None else after, begin + _END, PAGE)
        rows = (await self._desk.ask(statement, values)).reply.rows
        found = [name for key, raw in rows if (name := _name(key, raw)).startswith(prefix)]
        return Page(found, rows[-1][0] if len(rows) == PAGE else None)

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose."""
        return await doctor.examine(self._desk)


def _holder(row: tuple[Any, ...]) -> HolderView:
    _, _, owner, permits, token, ends, age, _, info = row
    return HolderView(owner, token, permits, age / 1e6, ends / 1e6, info)


def _name(key: str, raw: bytes | None) -> str:
    if raw is not None:
        return raw.decode("utf-8", "surrogatepass")
    return names.decode(key) or key
