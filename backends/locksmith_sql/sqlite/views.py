"""What people see: holders and waiters of a name, and names. Reads only; what is due is left out, not expired."""

from __future__ import annotations

from typing import Final

from locksmith import names
from locksmith.store import HolderView, Inspection, Page, WaiterView
from locksmith_sql.sqlite.clock import MICROS
from locksmith_sql.sqlite.connection import Link
from locksmith_sql.sqlite.ledger import Name

PAGE: Final = 500
# After every character that a key can have.
_END: Final = "\x7f"


def inspect(link: Link, name: str) -> Inspection:
    """See Store.inspect."""
    cursor, now, era = link.cursor, link.clock.now(), link.clock.era
    key = names.encode(name)
    # One snapshot for all three tables. A deferred transaction that only reads neither waits nor is waited for.
    cursor.execute("BEGIN")
    try:
        row = cursor.execute(link.sql.load, (key,)).fetchone()
        if row is None:
            return Inspection(name, None, 0)
        found = Name(*row)
        foreign = found.era != era
        rows = cursor.execute(link.sql.holders, (key,)).fetchall() if found.used else []
        if found.owner is not None:
            rows = [(found.owner, found.token, 1, found.since, found.expires, found.ttl, found.info)]
        line = cursor.execute(link.sql.line, (key,)).fetchall() if found.busy else []
    finally:
        cursor.execute("COMMIT")
    holders = [
        # Of another clock: it will have its whole ttl from when somebody touches it.
        HolderView(
            owner,
            token,
            permits,
            0.0 if foreign else (now - since) / MICROS,
            (ttl if foreign else expires - now) / MICROS,
            info,
        )
        for owner, token, permits, since, expires, ttl, info in rows
        if foreign or expires > now
    ]
    waiters = [
        WaiterView(owner, permits, 0.0 if foreign else (now - since) / MICROS, info)
        for owner, permits, since, expires, _, info in line
        if foreign or expires > now
    ]
    closed_for = found.delay if foreign and found.closed else max(0, found.closed - now)
    limit = found.limit if holders or waiters else None
    return Inspection(name, limit, found.token, holders, waiters, closed_for / MICROS)


def list_names(link: Link, prefix: str, after: str | None) -> Page:
    """See Store.names, in the order of keys."""
    return _list(link, link.sql.names, prefix, after)


def list_cells(link: Link, prefix: str, after: str | None) -> Page:
    """See Store.cells, in the order of keys."""
    return _list(link, link.sql.cells, prefix, after)


def _list(link: Link, statement: str, prefix: str, after: str | None) -> Page:
    # Keys begin as their names do, up to where long ones are cut and hashed; dots alone are written otherwise.
    begin = names.encode(prefix)[:64] if prefix.strip(".") else ""
    values = {
        "after": begin[:-1] + chr(ord(begin[-1]) - 1) + _END if begin else "",
        "end": begin + _END,
        "now": link.clock.now(),
        "era": link.clock.era,
        "page": PAGE,
    }
    if after is not None:
        values["after"] = after
    rows = link.cursor.execute(statement, values).fetchall()
    found = [name for key, raw in rows if (name := _name(key, raw)).startswith(prefix)]
    return Page(found, rows[-1][0] if len(rows) == PAGE else None)


def _name(key: str, raw: bytes | None) -> str:
    if raw is not None:
        return raw.decode("utf-8", "surrogatepass")
    return names.decode(key) or key
