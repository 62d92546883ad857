"""Every statement this store sends. Constant texts; only the tables' names, quoted by SQLAlchemy, are put in.

Bytes go as hexadecimal digits: they mean the same to every driver and in every character set.

The verbs that take thought are stored procedures (procedures.py). Here is what needs none, as one statement each, and
what people ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from locksmith_sql.mysql import procedures

# Take a free name with limit 1: the driver's "last insert id" is the token, or 0 where anything at all needs thought: a
# holder (also an expired one), a line, a tombstone, a lock_delay. RETURNING would say it too, but not on MySQL.
#
# The SET clauses run from left to right, and each sees what those before it have written. So `owner`, on which the
# condition depends, comes last, and nothing else that the condition reads is written at all. An upsert that also took
# over expired leases here extended them for their old owner: `expires` was new when `owner` was looked at.
_FREE: Final = "owner IS NULL AND busy = 0 AND used = 0 AND tombs = 0 AND closed = 0"
_TAKE: Final = """
INSERT INTO {lease} (`key`, name, token, lim, owner, expires, since, ttl, delay, info, seen)
VALUES (%s, UNHEX(%s), LAST_INSERT_ID({NOW}), 1, %s, {NOW} + %s, {NOW}, %s, %s, %s, {NOW})
ON DUPLICATE KEY UPDATE
  token = IF({FREE}, LAST_INSERT_ID(GREATEST(token + 1, VALUES(token))), token + LAST_INSERT_ID(0)),
  lim = IF({FREE}, 1, lim), expires = IF({FREE}, VALUES(expires), expires), since = IF({FREE}, VALUES(since), since),
  ttl = IF({FREE}, VALUES(ttl), ttl), delay = IF({FREE}, VALUES(delay), delay), info = IF({FREE}, VALUES(info), info),
  seen = IF({FREE}, VALUES(seen), seen), owner = IF({FREE}, VALUES(owner), owner)
"""

# The same where the row is there already: a third of the text, and no insert to try first. No row is found where
# anything needs thought.
_RETAKE: Final = """
UPDATE {lease} SET token = LAST_INSERT_ID(GREATEST(token + 1, {NOW})), lim = 1, owner = %s, expires = {NOW} + %s,
  since = {NOW}, ttl = %s, delay = %s, info = %s, seen = {NOW}
WHERE `key` = %s AND {FREE}
"""

# The moment at which a row is judged. That of {NOW} is the statement's beginning, which may have been before a wait for
# the row's lock. Our sessions' time zone is UTC. (On a server with sysdate-is-now it is the same moment.)
_BEGUN: Final = "UTC_TIMESTAMP(6)"
_LATE: Final = "SYSDATE(6)"

# Give back a name with limit 1 while nobody is in line. An expired lease is not given back, it is lost.
_GIVE: Final = """
UPDATE {lease} SET owner = NULL, seen = {NOW}
WHERE `key` = %s AND owner = %s AND token = %s AND busy = 0 AND expires > {LATE}
"""

# Renew a name with limit 1. As long as its holder lives nothing is due and nobody can be granted.
_RENEW: Final = """
UPDATE {lease} SET expires = {NOW} + %s, ttl = %s, seen = {NOW}
WHERE `key` = %s AND owner = %s AND token = %s AND expires > {LATE}
"""

_GET: Final = """
SELECT value, version FROM {cell} WHERE `key` = %s AND value IS NOT NULL AND (expires IS NULL OR expires > {NOW})
"""

# One statement, so that all of it is one moment: the name, its holders, its line.
_INSPECT: Final = """
SELECT 0 AS kind, token AS place, owner, lim AS permits, token, expires - {NOW} AS ends, {NOW} - since AS age,
    closed - {NOW} AS closed, info
  FROM {lease} WHERE `key` = %s
UNION ALL SELECT 1, token, owner, permits, token, expires - {NOW}, {NOW} - since, 0, info
  FROM {holder} WHERE `key` = %s
UNION ALL SELECT 2, number, owner, permits, 0, expires - {NOW}, {NOW} - since, 0, info
  FROM {line} WHERE `key` = %s
ORDER BY kind, place
"""

_CELLS: Final = """
SELECT `key`, name FROM {cell}
WHERE `key` > %s AND `key` < %s AND value IS NOT NULL AND (expires IS NULL OR expires > {NOW})
ORDER BY `key` LIMIT %s
"""

_NAMES: Final = """
SELECT `key`, name FROM {lease} AS l
WHERE `key` > %s AND `key` < %s AND (
  (owner IS NOT NULL AND expires > {NOW})
  OR (used > 0 AND EXISTS (SELECT 1 FROM {holder} AS h WHERE h.`key` = l.`key` AND h.expires > {NOW}))
  OR (busy > 0 AND EXISTS (SELECT 1 FROM {line} AS w WHERE w.`key` = l.`key` AND w.expires > {NOW})))
ORDER BY `key` LIMIT %s
"""

_VERSION: Final = "SELECT version FROM {meta} WHERE id = 1"
_SET_VERSION: Final = "INSERT IGNORE INTO {meta} (id, version) VALUES (1, {version})"


class Statements:
    """The statements of one namespace."""

    def __init__(self, prefix: str, tables: Mapping[str, str], version: int) -> None:
        late = procedures.NOW.replace(_BEGUN, _LATE)
        known = {**tables, "NOW": procedures.NOW, "LATE": late, "FREE": _FREE, "version": str(version)}

        def text(template: str) -> str:
            return template.format_map(known).strip()

        def call(name: str, *values: str) -> str:
            return f"CALL {calls[name]}({', '.join(values)})"

        calls = procedures.names(prefix)
        self.take = text(_TAKE)
        self.retake = text(_RETAKE)
        self.give = text(_GIVE)
        self.renew = text(_RENEW)
        self.get = text(_GET)
        self.inspect = text(_INSPECT)
        self.names = text(_NAMES)
        self.cells = text(_CELLS)
        self.version = text(_VERSION)
        self.set_version = text(_SET_VERSION)
        self.now = f"SELECT {procedures.NOW}"
        self.one = call("one", "%s", "%s", "UNHEX(%s)", *["%s"] * 11)
        self.pass_on = call("pass", *["%s"] * 5)
        self.queue = call("queue", *["%s"] * 6)
        self.many = call("many", "%s", "%s")
        self.take_all = call("take", *["%s"] * 6)
        self.wait = call("wait", *["%s"] * 10)
        self.write = call("write", "%s", "UNHEX(%s)", "UNHEX(%s)", *["%s"] * 5)
        self.pace = call("pace", *["%s"] * 4)
        self.sweep = call("sweep")
