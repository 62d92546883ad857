"""Every statement this store sends. Constant texts; only the tables' names, quoted by SQLAlchemy, are put in.

Parameters are positional where the statement is on the hot path, named elsewhere. Moments and durations are
microseconds: `now`, `expires`, `since`, `closed` of the host's clock (clock.py), `seen` and `wall` of the wall clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from locksmith_sql.schema import SCHEMA_VERSION

# Take a free name with limit 1. No row comes back where anything at all needs thought: a holder, a line, a tombstone, a
# lock_delay, another clock. `excluded.since` is now. In SQLite all right-hand sides see the row as it was, so that the
# order of the SET clauses means nothing (it does on MariaDB).
_TAKE = """
INSERT INTO {lease} AS l (key, name, token, lim, era, owner, expires, since, ttl, delay, info, seen)
VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
  token = max(l.token + 1, excluded.token), lim = 1, era = excluded.era, owner = excluded.owner,
  expires = excluded.expires, since = excluded.since, ttl = excluded.ttl, delay = excluded.delay,
  info = excluded.info, closed = 0, seen = excluded.seen
WHERE l.busy = 0 AND l.tombs = 0 AND l.used = 0
  AND (l.owner IS NULL OR (l.expires <= excluded.since AND l.era = excluded.era AND l.delay = 0))
  AND (l.closed = 0 OR (l.closed <= excluded.since AND l.era = excluded.era))
RETURNING token
"""

# Give back a name with limit 1 while nobody is in line. An expired lease is not given back, it is lost.
_GIVE = """
UPDATE {lease} SET owner = NULL, seen = ?
WHERE key = ? AND owner = ? AND token = ? AND busy = 0 AND era = ? AND expires > ?
"""

# Renew a name with limit 1. As long as its holder lives nothing is due and nobody can be granted.
_RENEW = """
UPDATE {lease} SET expires = ?, ttl = ?, seen = ?
WHERE key = ? AND owner = ? AND token = ? AND era = ? AND expires > ?
"""

# In the order of ledger.Name.
_LOAD = """
SELECT key, name, token, lim, era, owner, expires, since, ttl, delay, info, used, busy, tickets, tombs, closed, seen
FROM {lease} WHERE key = ?
"""

_SAVE = """
INSERT INTO {lease} (
  key, name, token, lim, era, owner, expires, since, ttl, delay, info, used, busy, tickets, tombs, closed, seen)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
  token = excluded.token, lim = excluded.lim, era = excluded.era, owner = excluded.owner, expires = excluded.expires,
  since = excluded.since, ttl = excluded.ttl, delay = excluded.delay, info = excluded.info, used = excluded.used,
  busy = excluded.busy, tickets = excluded.tickets, tombs = excluded.tombs, closed = excluded.closed,
  seen = excluded.seen
"""

_DUE = "SELECT owner, permits, expires, delay FROM {holder} WHERE key = ? AND expires <= ?"
_NEXT_DUE = "SELECT expires FROM {holder} WHERE key = ? ORDER BY expires LIMIT 1"
_HOLDER = "SELECT token, permits, expires, delay FROM {holder} WHERE key = ? AND owner = ?"
_HOLD = """
INSERT INTO {holder} (key, owner, token, permits, expires, since, ttl, delay, info)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_REARM = "UPDATE {holder} SET expires = ?, ttl = ? WHERE key = ? AND owner = ?"
_RENEW_HOLDER = "UPDATE {holder} SET expires = ?, ttl = ? WHERE key = ? AND owner = ? AND token = ?"
_UNHOLD = "DELETE FROM {holder} WHERE key = ? AND owner = ?"

_HEAD = """
SELECT number, owner, client, permits, expires, waiter_ttl, delay, info
FROM {line} WHERE key = ? ORDER BY number LIMIT 1
"""
_PLACE = "SELECT number, expires FROM {line} WHERE key = ? AND owner = ?"
_ENQUEUE = """
INSERT INTO {line} (key, number, owner, client, permits, expires, since, waiter_ttl, delay, info)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_STAY = "UPDATE {line} SET expires = ?, waiter_ttl = ? WHERE key = ? AND number = ?"
_DEQUEUE = "DELETE FROM {line} WHERE key = ? AND number = ?"

_TELL = "INSERT OR REPLACE INTO {news} (client, owner, number, token, seen) VALUES (?, ?, ?, ?, ?)"
_TOLD = "DELETE FROM {news} WHERE client = ? AND owner = ?"
_NEWS = "SELECT owner, number, token FROM {news} WHERE client = ?"
_FRONT = "SELECT number FROM {line} WHERE key = ? ORDER BY number LIMIT 1"

_TOMBS_DUE = "DELETE FROM {tomb} WHERE key = ? AND expires <= ?"
_TOMB = "SELECT 1 FROM {tomb} WHERE key = ? AND owner = ?"
_BURY = "INSERT OR REPLACE INTO {tomb} (key, owner, expires) VALUES (?, ?, ?)"

# Another era: everything timed is armed anew, in full, from now.
_ADOPT = (
    "UPDATE {holder} SET expires = :now + ttl, since = :now WHERE key = :key",
    "UPDATE {line} SET expires = :now + waiter_ttl, since = :now WHERE key = :key",
    "UPDATE {tomb} SET expires = :now + :tomb WHERE key = :key",
)

_HOLDERS = """
SELECT owner, token, permits, since, expires, ttl, info FROM {holder} WHERE key = ? ORDER BY token
"""
_LINE = "SELECT owner, permits, since, expires, waiter_ttl, info FROM {line} WHERE key = ? ORDER BY number"
_HOLDER_WITH = "SELECT owner FROM {holder} WHERE key = ? AND token = ?"

# Live names. Of another era everything counts as live: it will, for a ttl after somebody touches it.
_NAMES = """
SELECT key, name FROM {lease} AS l
WHERE key > :after AND key < :end AND (
  (owner IS NOT NULL AND (expires > :now OR era <> :era))
  OR (used > 0 AND EXISTS (SELECT 1 FROM {holder} AS h WHERE h.key = l.key AND (h.expires > :now OR l.era <> :era)))
  OR (busy > 0 AND EXISTS (SELECT 1 FROM {line} AS w WHERE w.key = l.key AND (w.expires > :now OR l.era <> :era))))
ORDER BY key LIMIT :page
"""

# Those of another era are read one by one, by the wall clock.
_CELLS = """
SELECT key, name FROM {cell}
WHERE key > :after AND key < :end AND value IS NOT NULL AND (expires IS NULL OR expires > :now OR era <> :era)
ORDER BY key LIMIT :page
"""
_CELL = "SELECT value, version, era, expires, expires_wall FROM {cell} WHERE key = ?"
_PUT = """
INSERT INTO {cell} (key, name, value, version, era, expires, expires_wall, sweep_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, era = excluded.era,
  expires = excluded.expires, expires_wall = excluded.expires_wall, sweep_at = excluded.sweep_at
"""

_PACE = "SELECT seen, last, leads, era, shift FROM {pace} WHERE key = ?"
_SET_PACE = """
INSERT INTO {pace} (key, seen, last, leads, era, shift, sweep_at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET seen = excluded.seen, last = excluded.last, leads = excluded.leads,
  era = excluded.era, shift = excluded.shift, sweep_at = excluded.sweep_at
"""

_SWEEP_STATE = "SELECT sweep_key, sweep_at FROM {meta} WHERE id = 1"
_SWEEP_ON = "UPDATE {meta} SET sweep_key = :key, sweep_at = :wall WHERE id = 1"
_SWEEP_PAGE = "SELECT key, seen FROM {lease} WHERE key > ? ORDER BY key LIMIT ?"
_SWEEP_NAME = "DELETE FROM {lease} WHERE key = ?"
_SWEEP_NEWS = "DELETE FROM {news} WHERE seen < ?"
_SWEEP_CELLS = "DELETE FROM {cell} WHERE key IN (SELECT key FROM {cell} WHERE sweep_at < ? ORDER BY sweep_at LIMIT 100)"
_SWEEP_PACES = """
DELETE FROM {pace} WHERE key IN (SELECT key FROM {pace} WHERE sweep_at < ? ORDER BY sweep_at LIMIT 1000)
"""
_VERSION = "SELECT version FROM {meta} WHERE id = 1"
_SET_VERSION = f"INSERT OR IGNORE INTO {{meta}} (id, version) VALUES (1, {SCHEMA_VERSION})"  # noqa: S608 - a constant


class Statements:
    """The statements of one namespace."""

    def __init__(self, tables: Mapping[str, str]) -> None:
        def text(template: str) -> str:
            return template.format_map(tables).strip()

        self.take = text(_TAKE)
        self.give = text(_GIVE)
        self.renew = text(_RENEW)
        self.load = text(_LOAD)
        self.save = text(_SAVE)
        self.due = text(_DUE)
        self.next_due = text(_NEXT_DUE)
        self.holder = text(_HOLDER)
        self.hold = text(_HOLD)
        self.rearm = text(_REARM)
        self.renew_holder = text(_RENEW_HOLDER)
        self.unhold = text(_UNHOLD)
        self.head = text(_HEAD)
        self.place = text(_PLACE)
        self.enqueue = text(_ENQUEUE)
        self.stay = text(_STAY)
        self.dequeue = text(_DEQUEUE)
        self.tell = text(_TELL)
        self.told = text(_TOLD)
        self.news = text(_NEWS)
        self.front = text(_FRONT)
        self.tombs_due = text(_TOMBS_DUE)
        self.tomb = text(_TOMB)
        self.bury = text(_BURY)
        self.adopt = tuple(text(template) for template in _ADOPT)
        self.holders = text(_HOLDERS)
        self.line = text(_LINE)
        self.holder_with = text(_HOLDER_WITH)
        self.names = text(_NAMES)
        self.cell = text(_CELL)
        self.cells = text(_CELLS)
        self.put = text(_PUT)
        self.pace = text(_PACE)
        self.set_pace = text(_SET_PACE)
        self.sweep_state = text(_SWEEP_STATE)
        self.sweep_on = text(_SWEEP_ON)
        self.sweep_page = text(_SWEEP_PAGE)
        self.sweep_name = text(_SWEEP_NAME)
        self.sweep_news = text(_SWEEP_NEWS)
        self.sweep_cells = text(_SWEEP_CELLS)
        self.sweep_paces = text(_SWEEP_PACES)
        self.version = text(_VERSION)
        self.set_version = text(_SET_VERSION)
