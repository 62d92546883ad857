"""The statements of `?mode=advisory`: session locks, and one row for each name that says for people who has it.

The rows decide nothing but tokens: who holds a name is whose session has its lock. So the table is UNLOGGED; a crash of
the server, which ends all sessions, empties it, and tokens go on from the server's microseconds.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from sqlalchemy.dialects.postgresql import psycopg as dialects

from locksmith_sql.postgresql.statements import CLOCK, MEMORY, Statement
from locksmith_sql.schema import SCHEMA_VERSION, Tables

_TABLE: Final = """CREATE UNLOGGED TABLE IF NOT EXISTS {table} (
  key text COLLATE "C" PRIMARY KEY, lock bigint NOT NULL, name bytea, owner text, token bigint NOT NULL, pid integer,
  ttl bigint NOT NULL, since bigint NOT NULL, info bytea
) WITH (fillfactor = 50)"""
# The lock first, in a statement of its own: what follows reads what the last holder had committed before it let go.
_TAKE: Final = """CREATE OR REPLACE FUNCTION {take}(
  p_lock bigint, p_key text, p_name bytea, p_owner text, p_ttl bigint, p_info bytea, p_waits boolean
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  v_token bigint;
  v_age bigint;
BEGIN
  IF p_waits THEN
    PERFORM pg_advisory_lock(p_lock);
  ELSIF NOT pg_try_advisory_lock(p_lock) THEN
    SELECT c.token, {age} INTO v_token, v_age FROM {table} AS c {live}
    WHERE c.key = p_key AND c.owner = p_owner;
    RETURN CASE WHEN v_token IS NOT NULL THEN ARRAY[-v_token, v_age] END;
  END IF;
  INSERT INTO {table} AS c (key, lock, name, owner, token, pid, ttl, since, info)
  VALUES (p_key, p_lock, p_name, p_owner, {now}, pg_backend_pid(), p_ttl, {now}, p_info)
  ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, token = greatest(c.token + 1, excluded.token),
    pid = excluded.pid, ttl = excluded.ttl, since = excluded.since, info = excluded.info
  RETURNING c.token INTO v_token;
  RETURN ARRAY[v_token];
END $$"""
_GIVE: Final = """CREATE OR REPLACE FUNCTION {give}(p_lock bigint, p_key text, p_token bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  UPDATE {table} SET owner = NULL, info = NULL WHERE key = p_key AND token = p_token;
  RETURN pg_advisory_unlock(p_lock);
END $$"""
# Whose session has the lock: then the row is of that session's grant.
_LIVE: Final = """JOIN pg_locks AS l ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid = c.pid
  AND ((l.classid::bigint << 32) | l.objid::bigint) = c.lock
  AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
  LEFT JOIN pg_stat_activity AS a ON a.pid = c.pid"""
# Microseconds from the session's last word to this request; all of its ttl where this user may not see that.
_AGE: Final = """coalesce((extract(epoch FROM statement_timestamp() - a.state_change) * 1000000)::bigint, c.ttl)"""
_INSPECT: Final = """SELECT c.owner, c.token, greatest(0, {now} - c.since), greatest(1, c.ttl - greatest(0, {age})), c.info
FROM {table} AS c {live} WHERE c.key = $1 AND c.owner IS NOT NULL"""
_NAMES: Final = """SELECT c.key, c.name FROM {table} AS c {live}
WHERE c.key > $1 AND c.key < $2 AND c.owner IS NOT NULL ORDER BY c.key LIMIT $3"""
_EVICT: Final = """SELECT pg_terminate_backend(c.pid) FROM {table} AS c {live}
WHERE c.key = $1 AND c.token = $2 AND c.owner IS NOT NULL"""
_SWEEP: Final = """DELETE FROM {table} WHERE key IN (
  SELECT c.key FROM {table} AS c WHERE c.since < {now} - {memory} AND pg_try_advisory_xact_lock(c.lock) LIMIT 100)"""
_STATE: Final = "SELECT CASE WHEN to_regclass('{table}') IS NOT NULL THEN {schema} END, to_regproc('{give}') IS NOT NULL"


class AdvisoryStatements:
    """The statements of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.prefix = Tables(namespace).prefix
        self._namespace = namespace
        quote = dialects.PGDialect_psycopg().identifier_preparer.quote  # type: ignore[no-untyped-call]
        self._words = {
            "table": quote(f"{self.prefix}_advisory"),
            "take": quote(f"{self.prefix}_advisory_take_v1"),
            "give": quote(f"{self.prefix}_advisory_give_v1"),
            "now": CLOCK,
            "live": _LIVE,
            "age": _AGE,
            "memory": str(MEMORY),
            "schema": str(SCHEMA_VERSION),
        }
        self.take = Statement("take", self._fill("SELECT {take}($1, $2, $3, $4, $5, $6, $7)"), 3, 6, count=7)
        self.give = Statement("give", self._fill("SELECT {give}($1, $2, $3)"))
        self.alive = Statement("alive", "SELECT 1")
        self.undo = Statement("undo", "SELECT pg_advisory_unlock($1)")
        self.inspect = Statement("inspect", self._fill(_INSPECT))
        self.names = Statement("names", self._fill(_NAMES))
        self.evict = Statement("evict", self._fill(_EVICT))
        self.given = Statement(
            "given", self._fill("SELECT FROM {table} WHERE key = $1 AND token = $2 AND owner IS NULL")
        )
        self.sweep = Statement("sweep", self._fill(_SWEEP))
        self.now = Statement("now", f"SELECT {CLOCK}")
        self.state = Statement("state", self._fill(_STATE))

    def lock(self, key: str) -> bytes:
        """The 64 bits that stand for a name. Two names have the same ones once in 2^64 pairs: then they exclude each
        other, too.
        """
        digest = hashlib.sha256(f"{self.prefix}\0{key}".encode()).digest()
        return b"%d" % int.from_bytes(digest[:8], "big", signed=True)

    def ddl(self) -> list[str]:
        """What creates everything, in order. Safe to repeat."""
        return [self._fill(text) for text in (_TABLE, _TAKE, _GIVE)]

    def _fill(self, template: str) -> str:
        while re.search(r"\{(\w+)\}", template):
            template = re.sub(r"\{(\w+)\}", lambda found: self._words[found[1]], template)
        return template
