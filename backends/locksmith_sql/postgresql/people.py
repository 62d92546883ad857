"""What people ask of the store: who holds and waits, which names are in use, take it away from them."""

from __future__ import annotations

from typing import Any, Final

from locksmith import names
from locksmith.store import Finding, HolderView, Inspection, Page, WaiterView
from locksmith_sql.postgresql.base import number, raw
from locksmith_sql.postgresql.doctor import examine
from locksmith_sql.postgresql.statements import MICROS, Statement
from locksmith_sql.postgresql.tables import Tables

PAGE: Final = 500
# After every character that a key can have.
_END: Final = "\x7f"


class People(Tables):
    """Inspection and intervention."""

    async def inspect(self, name: str) -> Inspection:
        result, _, _ = await self._ask(self._statements.inspect, [names.encode(name).encode()])
        holders, waiters = [], []
        limit, token, closed = None, 0, 0.0
        for at in range(result.ntuples):
            kind, owner, *numbers_, info = (result.get_value(at, column) for column in range(7))
            first, second, third, fourth = (int(value) for value in numbers_)
            if kind == b"n":
                token, limit, closed = first, second, third / MICROS
            elif kind == b"h":
                holders.append(HolderView(owner.decode(), first, second, third / MICROS, fourth / MICROS, _text(info)))
            else:
                waiters.append(WaiterView(owner.decode(), second, third / MICROS, _text(info)))
        return Inspection(name, limit if holders or waiters else None, token, holders, waiters, closed)

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names, in the order of keys."""
        return await self._list(self._statements.names, prefix, after)

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        """See Store.cells, in the order of keys."""
        return await self._list(self._statements.cells, prefix, after)

    async def _list(self, statement: Statement, prefix: str, after: str | None) -> Page:
        # Keys begin as their names do, up to where long ones are cut and hashed; dots alone are written otherwise.
        begin = names.encode(prefix)[:64] if prefix.strip(".") else ""
        start = begin[:-1] + chr(ord(begin[-1]) - 1) + _END if begin else ""
        params = [(start if after is None else after).encode(), f"{begin}{_END}".encode(), number(PAGE)]
        result, _, _ = await self._ask(statement, params)
        keys = [result.get_value(at, 0).decode() for at in range(result.ntuples)]
        found = [_name(key, result.get_value(at, 1)) for at, key in enumerate(keys)]
        return Page([name for name in found if name.startswith(prefix)], keys[-1] if len(keys) == PAGE else None)

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict. "Nobody has it" by a second request means that the first, unanswered one evicted them."""
        params = [names.encode(name).encode(), number(token)]
        result, _, again = await self._ask(self._statements.evict, params)
        return again or result.get_value(0, 0) == b"t"

    async def diagnose(self) -> list[Finding]:
        return await examine(self._ask, self._link)


def _name(key: str, original: bytes | None) -> str:
    if original is not None:
        return raw(original).decode("utf-8", "surrogatepass")
    return names.decode(key) or key


def _text(info: Any) -> str:
    return raw(info).decode("utf-8", "replace")
