"""SQLite's errors in the words of the store interface. The one place that reads result codes."""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

from locksmith import redact
from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable

# https://www.sqlite.org/rescode.html; PROTOCOL is a lost race for the WAL's read locks.
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_FOREIGN: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT})
_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write it: look at the system log",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that its directory exists and may be written to",
    sqlite3.SQLITE_NOMEM: "memory ran out",
}


class Busy(StoreUnavailable):
    """Somebody else is writing just now; nothing was done, so asking again is safe."""


def code_of(error: BaseException) -> int:
    """The primary result code of SQLite's error, or 0."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def translate(error: Exception, path: str) -> StoreError:
    """What this error of the driver means for the caller. Raise it `from` the error."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig
    code = code_of(error)
    said = redact.text(error)
    if code in _BUSY:
        return Busy(f"{path} is being written to by somebody else ({said}): try again")
    if code in _FOREIGN:
        return StoreProtocolError(f"{path} is not a sound SQLite database ({said}): move it away, or name another file")
    if code in _FORBIDDEN:
        return StoreAuthError(
            f"{path} may not be written to ({said}): give this user write access to it and its directory"
        )
    if "no such table" in said or "no such column" in said:
        return StoreProtocolError(f"the tables in {path} were changed under us ({said}): leave them alone")
    advice = _ADVICE.get(code, "see the cause")
    return StoreUnavailable(f"{path} could not be asked ({said}): {advice}")
