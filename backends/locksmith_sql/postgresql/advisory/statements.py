"""The statements of `?mode=advisory`.

Who has a name is whose session has its lock, and nothing else. A sequence gives the tokens; the rows say for people who
holds what, and decide nothing, so their table is UNLOGGED.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from sqlalchemy.dialects.postgresql import psycopg as dialects

from locksmith_sql.postgresql.statements import CLOCK, MICROS, Statement
from locksmith_sql.schema import SCHEMA_VERSION, Tables

SWEPT_AFTER: Final = 60 * MICROS
"""From when on a row without its lock is left over, and not of somebody who took it just now."""

# A sequence is not taken back by a transaction that fails, nor by a wall clock that is set back, and a crash takes it
# forward. It begins at the clock, so that one that is dropped and made again goes on.
_SEQUENCE: Final = """DO $$ BEGIN
  IF to_regclass('{tokens}') IS NULL THEN
    EXECUTE 'CREATE SEQUENCE {tokens} START WITH ' || {now};
  END IF;
END $$"""
_TABLE: Final = """CREATE UNLOGGED TABLE IF NOT EXISTS {table} (
  lock bigint, token bigint, key text COLLATE "C" NOT NULL, name bytea, owner text NOT NULL, pid integer NOT NULL,
  ttl bigint NOT NULL, since bigint NOT NULL, info bytea NOT NULL, PRIMARY KEY (lock, token)
)"""
# A row for each grant, and none that is updated: waiters keep the server from cleaning up behind updates. CASE settles
# the order: no token before the lock is ours.
_TAKE: Final = """WITH got AS MATERIALIZED (SELECT CASE WHEN {locked} THEN nextval('{tokens}') END AS token)
INSERT INTO {table} (lock, token, key, name, owner, pid, ttl, since, info)
SELECT $1, token, $2, $3, $4, pg_backend_pid(), $5, {now}, $6 FROM got WHERE token IS NOT NULL RETURNING token"""
_GIVE: Final = """WITH gone AS (DELETE FROM {table} WHERE lock = $1 AND token = $2) SELECT pg_advisory_unlock($1)"""
_LOCKS: Final = """pg_locks AS l ON l.locktype = 'advisory' AND l.objsubid = 1
  AND ((l.classid::bigint << 32) | l.objid::bigint) = c.lock
  AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())"""
_HOLDER: Final = "JOIN {locks} AND l.granted AND l.pid = c.pid"
# Where this user may not see how long a session has been silent: all of its ttl.
_LEFT: Final = """greatest(1, c.ttl - greatest(0, CASE WHEN a.state = 'idle'
  THEN {now} - (extract(epoch FROM a.state_change) * 1000000)::bigint ELSE 0 END))"""
_INSPECT: Final = """
SELECT 'h', c.owner, c.token, 1, {now} - c.since, {left}, c.info
FROM (SELECT * FROM {table} WHERE lock = $1 AND key = $2) AS c {holder} LEFT JOIN pg_stat_activity AS a ON a.pid = c.pid
UNION ALL
SELECT 'w', 'session ' || l.pid, l.pid, 1, coalesce({now} - (extract(epoch FROM l.waitstart) * 1000000)::bigint, 0),
  0, ''::bytea
FROM (SELECT $1 AS lock) AS c JOIN {locks} AND NOT l.granted
ORDER BY 1, 5 DESC, 3 DESC"""
_NAMES: Final = """SELECT DISTINCT c.key, c.name FROM {table} AS c {holder} WHERE c.key > $1 AND c.key < $2
ORDER BY c.key LIMIT $3"""
_EVICT: Final = """SELECT pg_terminate_backend(c.pid, 2000)
FROM (SELECT * FROM {table} WHERE lock = $1 AND token = $2) AS c {holder}"""
_SWEEP: Final = """DELETE FROM {table} AS d USING (
  SELECT lock, token, pid, since FROM {table} WHERE lock >= $1 ORDER BY lock, token LIMIT 1000) AS c
WHERE d.lock = c.lock AND d.token = c.token AND c.since < {now} - {old}
AND NOT EXISTS (SELECT FROM (SELECT c.lock, c.pid) AS c {holder})"""
_STATE: Final = (
    "SELECT CASE WHEN to_regclass('{table}') IS NOT NULL THEN {schema} END, to_regclass('{tokens}') IS NOT NULL"
)
# A failover or a restored backup takes the sequence back; both end all sessions. Every new one therefore moves it ahead
# of the clock, one at a time, and so far that no grant under way meanwhile could have come as far.
_AHEAD: Final = """SELECT pg_advisory_xact_lock({mutex});
SELECT setval('{tokens}', t.now + 10000000) FROM {tokens} AS s, (SELECT {now} AS now) AS t WHERE s.last_value < t.now"""


class AdvisoryStatements:
    """The statements of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.prefix = Tables(namespace).prefix
        quote = dialects.PGDialect_psycopg().identifier_preparer.quote  # type: ignore[no-untyped-call]
        self._words = {
            "table": quote(f"{self.prefix}_advisory"),
            "tokens": quote(f"{self.prefix}_tokens"),
            "locks": _LOCKS,
            "holder": _HOLDER,
            "left": _LEFT,
            "now": CLOCK,
            "old": str(SWEPT_AFTER),
            "schema": str(SCHEMA_VERSION),
            "mutex": self.lock("").decode(),
        }
        self.take = self._statement("take", _TAKE.replace("{locked}", "pg_try_advisory_lock($1)"), 3, 6, count=6)
        self.wait = self._statement(
            "wait", _TAKE.replace("{locked}", "pg_advisory_lock($1) IS NOT NULL"), 3, 6, count=6
        )
        self.give = self._statement("give", _GIVE)
        self.undo = self._statement("undo", "SELECT pg_advisory_unlock($1)")
        self.alive = self._statement("alive", "SELECT 1")
        self.inspect = self._statement("inspect", _INSPECT)
        self.names = self._statement("names", _NAMES)
        self.evict = self._statement("evict", _EVICT)
        self.end = self._statement("end", "SELECT pg_terminate_backend($1)")
        self.sweep = self._statement("sweep", _SWEEP)
        self.now = self._statement("now", "SELECT {now}")
        self.state = self._statement("state", _STATE)
        self.ahead = self._fill(_AHEAD).encode()
        self.session = (self.take, self.wait, self.give, self.undo, self.alive)
        """Those that are prepared in every session of ours."""

    def lock(self, key: str) -> bytes:
        """The 64 bits that stand for a name. Of two names they are the same once in 2^64: then these exclude each
        other, too.
        """
        digest = hashlib.sha256(f"{self.prefix}\0{key}".encode()).digest()
        return b"%d" % int.from_bytes(digest[:8], "big", signed=True)

    def ddl(self) -> list[str]:
        """What creates everything, in order. Safe to repeat."""
        return [self._fill(text) for text in (_SEQUENCE, _TABLE)]

    def _taking(self, name: str, locked: str) -> Statement:
        return self._statement(name, _TAKE.replace("{locked}", locked), 3, 6, count=6)

    def _statement(self, name: str, template: str, *raw: int, count: int = 0) -> Statement:
        return Statement(name, self._fill(template).strip(), *raw, count=count)

    def _fill(self, template: str) -> str:
        # Fragments have places of their own.
        while re.search(r"\{\w+\}", template):
            template = re.sub(r"\{(\w+)\}", lambda found: self._words[found[1]], template)
        return template
