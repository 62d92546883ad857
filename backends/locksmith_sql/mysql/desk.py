"""Requests about one namespace: its statements, and its tables and procedures, created when first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy.dialects import mysql as dialects

from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError
from locksmith_sql.mysql import procedures
from locksmith_sql.mysql.errors import EXISTS, FORBIDDEN, NO_TABLE, code_of
from locksmith_sql.mysql.link import Answer, Link
from locksmith_sql.mysql.statements import Statements
from locksmith_sql.schema import SCHEMA_VERSION, Tables

_NO_COLUMN: Final = 1054


class Desk:
    """Where the requests of one store go out."""

    def __init__(self, link: Link, namespace: str) -> None:
        self.link = link
        dialect = dialects.dialect()
        tables = Tables(namespace)
        self.prefix = tables.prefix
        quoted = tables.quoted(dialect)
        self.sql = Statements(tables.prefix, quoted, SCHEMA_VERSION)
        # CREATE INDEX IF NOT EXISTS is MariaDB's alone: see `create`.
        indexes = [text.replace(" IF NOT EXISTS", "", 1) if " INDEX " in text else text for text in tables.ddl(dialect)]
        self.ddl = [text.strip() for text in indexes] + procedures.ddl(tables.prefix, quoted) + [self.sql.set_version]
        self._ready = False

    async def ask(
        self,
        text: str,
        values: tuple[object, ...] = (),
        *,
        within: float | None = None,
        repeat: bool = True,
        by: Any = None,
    ) -> Answer:
        """See Link.ask. Where tables or procedures are missing they are created first."""
        until = None if within is None else self.link.now() + within

        def left() -> float | None:
            return None if until is None else max(0.001, until - self.link.now())

        if not self._ready:
            await self._prepare(left)
        try:
            return await self.link.ask(text, values, within=left(), repeat=repeat, by=by)
        except StoreProtocolError as error:
            if code_of(error.__cause__ or error) not in NO_TABLE:
                raise
        # Dropped by somebody, or made by an older locksmith that had other procedures.
        self._ready = False
        await self._prepare(left, missing=True)
        return await self.link.ask(text, values, within=left(), repeat=repeat, by=by)

    async def _prepare(self, left: Callable[[], float | None], *, missing: bool = False) -> None:
        found = await self._version(left())
        if found is None or (missing and found == SCHEMA_VERSION):
            await self.create()
            found = await self._version(left())
        if found != SCHEMA_VERSION:
            raise StoreProtocolError(
                f"the tables {self.prefix}_* in {self.link.server.address} have version {found}, this locksmith writes "
                f"version {SCHEMA_VERSION}: use one version of locksmith for one database, or another namespace"
            )
        self._ready = True

    async def create(self) -> None:
        """Create what is missing of tables and procedures. Raises StoreAuthError where this user may not."""
        for text in self.ddl:
            try:
                await self.link.ask(text)
            except StoreError as error:
                code = code_of(error.__cause__ or error)
                if code in EXISTS:
                    continue
                if code in FORBIDDEN:
                    raise StoreAuthError(
                        f"this user may not create the tables and procedures {self.prefix}_* in "
                        f"{self.link.server.address}: run `locksmith init` as somebody with the rights CREATE, INDEX "
                        "and CREATE ROUTINE (`locksmith init --sql` prints the statements)"
                    ) from error
                raise

    async def _version(self, within: float | None) -> int | None:
        try:
            answer = await self.link.ask(self.sql.version, within=within)
        except StoreError as error:
            code = code_of(error.__cause__ or error)
            # Without any right to the database the server does not say whether the table exists.
            if code in NO_TABLE:
                return None
            if code == _NO_COLUMN:
                return -1
            raise
        return int(answer.reply.rows[0][0]) if answer.reply.rows else None
