"""Forgetting names and cells that nobody used for a day: in small steps, now and then, one client at a time."""

from __future__ import annotations

from typing import Final

from locksmith_sql.sqlite.clock import MICROS
from locksmith_sql.sqlite.connection import Link
from locksmith_sql.sqlite.ledger import Ledger

MEMORY: Final = 86_400 * MICROS
"""How long a last token and a deleted cell's version are kept; microseconds carry their growth across the gap."""
EVERY: Final = 10 * MICROS
_PAGE: Final = 1000
_AT_ONCE: Final = 100


def due(link: Link) -> bool:
    """Whether somebody should sweep: nobody did lately. Also where the wall clock went back."""
    row = link.cursor.execute(link.sql.sweep_state).fetchone()
    return row is None or abs(link.clock.wall() - row[1]) >= EVERY


def step(ledger: Ledger) -> None:
    """Look at the next page of names, and delete those that are idle."""
    cursor, sql = ledger.cursor, ledger.sql
    after, swept_at = cursor.execute(sql.sweep_state).fetchone()
    if abs(ledger.wall - swept_at) < EVERY:
        return
    rows = cursor.execute(sql.sweep_page, (after, _PAGE)).fetchall()
    old = [key for key, seen in rows if seen < ledger.wall - MEMORY]
    upto = rows[-1][0] if len(rows) == _PAGE else ""
    if len(old) > _AT_ONCE:
        old = old[:_AT_ONCE]
        upto = old[-1]
    for key in old:
        # Opened first: whoever died holding it is expired by the rules, or armed anew if their clock was another one.
        name = ledger.open(key)
        del ledger.opened[key]
        if name.live or name.tombs or name.closed > ledger.now:
            cursor.execute(sql.save, name.row())
        else:
            cursor.execute(sql.sweep_name, (key,))
    cursor.execute(sql.sweep_cells, (ledger.wall,))
    cursor.execute(sql.sweep_paces, (ledger.wall,))
    cursor.execute(sql.sweep_news, (ledger.wall - MEMORY,))
    cursor.execute(sql.sweep_on, {"key": upto, "wall": ledger.wall})
