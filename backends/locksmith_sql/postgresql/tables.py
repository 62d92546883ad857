"""What must be on the server before the first request, of either kind of lock."""

from __future__ import annotations

import time

from locksmith_sql.postgresql import opening
from locksmith_sql.postgresql.base import Asking
from locksmith_sql.postgresql.errors import Trouble, translate
from locksmith_sql.postgresql.url import Server


class Tables(Asking):
    """The statements that create it, to be read or run."""

    _server: Server

    def ddl(self) -> list[str]:
        """The statements that create tables and functions: for somebody who may, to run or to read."""
        return self._statements.ddl()

    async def create(self) -> None:
        """Create what is missing of tables and functions. Raises StoreError; StoreAuthError without the right to."""
        until = time.monotonic() + self._server.timeout
        try:
            wire = await self.runtime.settle(self._link.open(until, tables=False))
            try:
                await self.runtime.settle(self._link.talk(wire, opening.create(self._statements), until))
            finally:
                wire.close()
        except Trouble as trouble:
            raise translate(trouble) from trouble
