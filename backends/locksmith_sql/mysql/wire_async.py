"""An asyncio connection: opened by SQLAlchemy, spoken to by the driver's own cursor."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from functools import cache
from typing import Any, Final

from locksmith_sql.mysql.wire import Line, Reply, errors_of

_GOODBYE: Final = 1.0


class AsyncWire:
    """One connection. Whoever gets an exception that is not the server's answer must `abort` it."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.errors = errors_of(raw)
        self.owed: list[tuple[str, str]] = []
        writer = getattr(raw, "_writer", None)
        self._line = Line(None if writer is None else writer.get_extra_info("socket"))
        self._cursor: Any = None
        self._kinds: tuple[type[Any], ...] = ()
        if type(raw).__module__ == "aiomysql.connection":
            connection, cursor = _quiet()
            raw.__class__ = connection
            self._kinds = (cursor,)

    def encrypted(self) -> bool:
        """Whether TLS is spoken. aiomysql goes on without it where the server offers none, and says nothing."""
        writer = getattr(self.raw, "_writer", None)
        return writer is not None and writer.get_extra_info("ssl_object") is not None

    def ready(self) -> bool:
        """Whether the idle connection still lives, as far as can be told without asking the server."""
        reader = getattr(self.raw, "_reader", None)
        if reader is None:
            return not getattr(self.raw, "closed", False)
        # What the loop has read already, and what it has not come to. aiomysql's reader knows more than its base class:
        # there may be last words in front of the end.
        heard = getattr(reader, "eof_received", False) or reader.at_eof() or reader.exception()
        return not heard and self._line.quiet()

    async def ask(self, text: str, values: tuple[object, ...], seconds: float) -> Reply:
        """Send a statement and read all that comes back, within so many seconds. Raises the driver's errors."""
        async with asyncio.timeout(seconds):
            cursor = self._cursor
            if cursor is None:
                cursor = self.raw.cursor(*self._kinds)
                self._cursor = cursor = await cursor if inspect.isawaitable(cursor) else cursor
            count = await cursor.execute(text, values or None)
            rows = tuple(await cursor.fetchall()) if cursor.description else ()
            reply = Reply(rows, count if isinstance(count, int) else cursor.rowcount, cursor.lastrowid or 0)
            # A CALL has one more result, without rows, behind those of the procedure.
            while await cursor.nextset():
                pass
            return reply

    async def close(self) -> None:
        """Say goodbye, and end the connection."""
        goodbye = getattr(self.raw, "ensure_closed", None)
        if goodbye is None:
            self.raw.close()
            return
        async with asyncio.timeout(_GOODBYE):
            await goodbye()

    def abort(self) -> None:
        """End the connection without a word: an answer may be under way on it."""
        with suppress(Exception):
            self.raw.close()


@cache
def _quiet() -> tuple[type[Any], type[Any]]:
    """Aiomysql's connection and cursor without what they say unasked."""
    import aiomysql  # type: ignore[import-untyped]

    class Connection(aiomysql.Connection):  # type: ignore[misc]
        def __del__(self) -> None:
            # Of a client that nobody closed. aiomysql's own complains, and stumbles over a loop that has ended.
            with suppress(Exception):
                if self._writer is not None:
                    self._writer.transport.abort()

    class Cursor(aiomysql.Cursor):  # type: ignore[misc]
        async def _show_warnings(self, conn: object) -> None:
            # A request more after every one that had a warning, to print it.
            pass

    return Connection, Cursor
