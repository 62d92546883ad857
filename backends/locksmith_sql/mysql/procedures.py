"""The rules of the store interface as stored procedures: one request, one transaction, one commit for every verb.

What a client would have to send as eight statements, holding a row lock through eight round trips (and for as long as
the process is stopped in between), the server does by itself. Nothing here depends on the session: moments are those of
UTC_TIMESTAMP, which knows no time zone, and the isolation level is named in each transaction.

Every verb first locks the row of its name in a statement of its own, and only then reads the clock and the line: under
READ COMMITTED each statement sees what was committed before it began, so whoever waited for the lock sees everything
that its last owner did. Then it expires what is due and grants from the head of the line (rule 5 of the interface).
`step` does all of this for all verbs; `pass` and `queue` do the little that is left of it in a crowd.

The texts are in sql/; MariaDB and MySQL understand the same. Local variables are called v_*, the head of the line h_*,
parameters p_*, since a variable would hide a column of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

NOW: Final = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
"""Microseconds of the server's wall clock, as they were when the statement began."""
TOMBSTONE: Final = 60_000_000
"""Microseconds an abandoned owner is refused: longer than a stalled request lives."""
MEMORY: Final = 86_400_000_000
"""Microseconds a last token and a deleted cell's version are kept; the clock carries their growth across the gap."""
SWEEP_EVERY: Final = 10_000_000
SWEEP_PAGE: Final = 500

_TYPES: Final = {
    "KEY": "VARCHAR(160) CHARACTER SET ascii COLLATE ascii_bin",
    "WORD": "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin",
    "INFO": "TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "LIST": "LONGTEXT CHARACTER SET ascii COLLATE ascii_bin",
    "TOMBSTONE": str(TOMBSTONE),
    "MEMORY": str(MEMORY),
    "SWEEP_EVERY": str(SWEEP_EVERY),
    "SWEEP_PAGE": str(SWEEP_PAGE),
    "HOUR": str(3_600_000_000),
}


_BEGIN: Final = """
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK;
    RESIGNAL;
  END;
"""
_START: Final = """
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  START TRANSACTION;
"""
# Where locks of GET_LOCK are not to be had (Galera), or not just now, nobody is woken by them, and that is all.
_QUIETLY: Final = "BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;"

_ALL: Final = ("step", "one", "pass", "queue", "many", "take", "wait", "write", "pace", "sweep")
VERSION: Final = 2
"""Part of the procedures' names: another locksmith may run beside this one, with procedures of its own."""


def names(prefix: str) -> Mapping[str, str]:
    """The quoted names of a namespace's procedures. A prefix is lower-case letters, digits and underscores."""
    return {word: f"`{prefix}_{word}_v{VERSION}`" for word in _ALL}


def ddl(prefix: str, tables: Mapping[str, str]) -> list[str]:
    """The statements that create the procedures."""
    parts = {"BEGIN": _BEGIN.strip(), "START": _START.strip(), "QUIETLY": _QUIETLY}
    known = {**_TYPES, "NOW": NOW, **tables, "pace_table": tables["pace"], **names(prefix), **parts}
    folder = files("locksmith_sql.mysql") / "sql"
    return [(folder / f"{word}.sql").read_text("utf-8").format_map(known).strip() for word in _ALL]
