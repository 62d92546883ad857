"""How a file is opened: what is asked of SQLite, of the file's place, and of the tables found in it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from locksmith import redact
from locksmith.errors import ConfigurationError, StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable
from locksmith_sql.schema import SCHEMA_VERSION
from locksmith_sql.sqlite.errors import translate
from locksmith_sql.sqlite.mounts import is_network, kind_of
from locksmith_sql.sqlite.statements import Statements

MIN_SQLITE: Final = (3, 35, 0)
"""RETURNING came with 3.35."""


def connect(engine: sa.Engine, place: str) -> sa.Connection:
    """A connection of our own, held, in autocommit mode. Raises StoreError."""
    try:
        held = engine.connect()
    except SQLAlchemyError as error:
        raise _cannot_open(error, place) from error
    try:
        # Out of the pool for good: what we set on it stays with us, and a user's pool is not short of one.
        held.detach()
        raw = cast(sqlite3.Connection, held.connection.dbapi_connection)
        # We begin and end transactions ourselves. Since Python 3.12 a connection may have another mode on top.
        if getattr(raw, "autocommit", True) is False:
            setattr(raw, "autocommit", True)  # noqa: B010 - unknown to the type stubs of Python 3.11
        raw.isolation_level = None
    except BaseException:
        held.close()
        raise
    return held


def _cannot_open(error: SQLAlchemyError, place: str) -> StoreError:
    directory = Path(place).parent
    try:
        exists = directory.is_dir()
        allowed = os.access(directory, os.W_OK | os.X_OK) and (not Path(place).exists() or os.access(place, os.W_OK))
    except PermissionError:
        exists, allowed = True, False
    if not exists:
        return StoreUnavailable(f"there is no directory {directory} for {place}: create it, or name another file")
    if not allowed:
        return StoreAuthError(
            f"this user may not write to {place}, or to its directory: allow it, or name another file"
        )
    if isinstance(error, DBAPIError):
        return translate(error, place)
    return StoreUnavailable(f"{place} could not be opened: {redact.text(error)}")


def prepare(raw: sqlite3.Connection, place: str) -> str:
    """Check and set up a new connection, and return the file's real path.

    Raises ConfigurationError for what can never work, sqlite3.Error otherwise.
    """
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise ConfigurationError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or later is needed")
    raw.execute("PRAGMA busy_timeout = 0")
    path = str(raw.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()[0] or "")
    if not path:
        raise ConfigurationError("this SQLite database lives in memory, where no other process sees it: use memory://")
    kind = kind_of(path)
    if is_network(kind):
        raise ConfigurationError(
            f"{place} is on a network file system ({kind}), where SQLite's locks do not hold: "
            "put it on a local disk, or use a server such as redis://"
        )
    mode = raw.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        mode = raw.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigurationError(f"{place} cannot keep a write-ahead log here (journal mode {mode}): use a local disk")
    # A commit survives the death of any process. Leases need not survive the power: all holders go with it. Cells
    # must, and ask for more (see Desk.transact). The log is synced before it is copied back, so nothing breaks.
    raw.execute("PRAGMA synchronous = NORMAL")
    return path


def create(cursor: sqlite3.Cursor, sql: Statements, ddl: Sequence[str], prefix: str, place: str) -> None:
    """Make sure that the tables are there, and ours. Raises StoreProtocolError."""
    found = _version(cursor, sql)
    if found is None:
        cursor.execute("BEGIN IMMEDIATE")
        for statement in ddl:
            cursor.execute(statement)
        found = _version(cursor, sql)
        cursor.execute("COMMIT")
    if found != SCHEMA_VERSION:
        raise StoreProtocolError(
            f"the tables {prefix}_* in {place} have version {found}, this locksmith writes version {SCHEMA_VERSION}: "
            "use one version of locksmith for one file, or name another file or namespace"
        )


def _version(cursor: sqlite3.Cursor, sql: Statements) -> int | None:
    try:
        row = cursor.execute(sql.version).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        if "no such column" in str(error):
            return -1
        raise
    return row[0] if row else None


def identity(path: str) -> tuple[int, int] | None:
    """What tells this file from another of the same name; None where there is none.

    By stat, never by open: closing any descriptor of the file would drop the locks that SQLite holds on it.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - called often
    except OSError:
        return None
    return found.st_dev, found.st_ino
