"""What people ask of a store of session locks; and what it has not got."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from locksmith import names
from locksmith.errors import GuaranteeMissing
from locksmith.store import ANY, Cell, Expect, Finding, Grant, HolderView, Inspection, Page
from locksmith_sql.postgresql import opening
from locksmith_sql.postgresql.base import Asking, number
from locksmith_sql.postgresql.doctor import examine
from locksmith_sql.postgresql.errors import Trouble, translate
from locksmith_sql.postgresql.people import PAGE, _END, _name, _text
from locksmith_sql.postgresql.statements import MICROS

import time

_PAUSE: Final = 0.005


class AdvisoryPeople(Asking):
    """Inspection and intervention, tables, and the refusal of cells."""

    _statements: Any
    _server: Any

    def ddl(self) -> list[str]:
        """See Store.ddl."""
        return list(self._statements.ddl())

    async def create(self) -> None:
        """See Store.create."""
        until = time.monotonic() + self._server.timeout
        try:
            wire = await self.runtime.settle(self._link.open(until, tables=False))
            try:
                await self.runtime.settle(self._link.talk(wire, opening.create(self._statements), until))
            finally:
                wire.close()
        except Trouble as trouble:
            raise translate(trouble) from trouble

    async def inspect(self, name: str) -> Inspection:
        """See Store.inspect. Waiters are not shown: the server does not say for whom a session waits."""
        result, _, _ = await self._ask(self._statements.inspect, [names.encode(name).encode()])
        holders = []
        for at in range(result.ntuples):
            owner, *said, info = (result.get_value(at, column) for column in range(5))
            token, since, left = (int(value) for value in said)
            holders.append(HolderView(owner.decode(), token, 1, since / MICROS, left / MICROS, _text(info)))
        return Inspection(name, 1 if holders else None, holders[0].token if holders else 0, holders)

    async def names(self, prefix: str, after: str | None = None) -> Page:
        """See Store.names, in the order of keys."""
        begin = names.encode(prefix)[:64] if prefix.strip(".") else ""
        start = begin[:-1] + chr(ord(begin[-1]) - 1) + _END if begin else ""
        params = [(start if after is None else after).encode(), f"{begin}{_END}".encode(), number(PAGE)]
        result, _, _ = await self._ask(self._statements.names, params)
        keys = [result.get_value(at, 0).decode() for at in range(result.ntuples)]
        found = [_name(key, result.get_value(at, 1)) for at, key in enumerate(keys)]
        return Page([name for name in found if name.startswith(prefix)], keys[-1] if len(keys) == PAGE else None)

    async def evict(self, name: str, token: int) -> bool:
        """See Store.evict. Ends the whole session, with all locks that its client has there."""
        params = [names.encode(name).encode(), number(token)]
        result, _, again = await self._ask(self._statements.evict, params)
        if not result.ntuples:
            return again
        until = time.monotonic() + self._server.timeout
        while time.monotonic() < until:
            if token not in [view.token for view in (await self.inspect(name)).holders]:
                break
            await self.runtime.sleep(_PAUSE)
        return True

    async def diagnose(self) -> list[Finding]:
        """See Store.diagnose."""
        return await examine(self._ask, self._link)

    async def now(self) -> int | None:
        """See Store.now."""
        result, _, _ = await self._ask(self._statements.now, [])
        return int(result.get_value(0, 0))

    async def get(self, key: str) -> Cell | None:
        """Refused."""
        self._no_cells()

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        """Refused."""
        self._no_cells()

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        """Refused."""
        self._no_cells()

    def _no_cells(self) -> NoReturn:
        raise GuaranteeMissing(f"{self.address} keeps no cells: leave mode=advisory out")
