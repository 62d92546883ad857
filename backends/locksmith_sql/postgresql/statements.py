"""Every statement this store sends, and the functions it keeps on the server.

Values are bound, always; what is put into a text are the names of tables and functions, quoted by SQLAlchemy, and the
fragments below. Moments and durations are microseconds of the server's clock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from sqlalchemy.dialects.postgresql import psycopg as dialects
from sqlalchemy.engine import Dialect

from locksmith_sql.schema import SCHEMA_VERSION, Tables

MICROS: Final = 1_000_000
MEMORY: Final = 86_400 * MICROS
"""How long a last token and a deleted cell's version are kept; microseconds carry their growth across the gap."""
REVISION: Final = 2
"""Part of the functions' names: another locksmith, with other functions over the same tables, can live beside this."""
NOT_PINNED: Final = "LK001"
"""The SQLSTATE of our own refusal to run in another isolation level than READ COMMITTED."""

_FILES: Final = ("rules", "claims", "beat", "cells", "pace", "sweep")
_FUNCTIONS: Final = (
    "open", "save", "token_of", "hold", "unhold", "expire", "settle", "head_ends",
    "acquire", "acquire_all", "release", "abandon", "evict", "beat", "write", "pace", "sweep",
)  # fmt: skip
# The session's default may be another level, in which the line is read as it was before its row was waited for.
_PINNED: Final = f"""IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'locksmith needs READ COMMITTED' USING ERRCODE = '{NOT_PINNED}';
  END IF;"""
_DURABLE: Final = """IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;"""
_RELAXED: Final = "PERFORM set_config('synchronous_commit', 'off', true);"
# Permits in somebody's hands, of a row `l`.
_TAKEN: Final = "(l.used + (l.owner IS NOT NULL)::integer)"
CLOCK: str = f"(extract(epoch FROM clock_timestamp()) * {MICROS})::bigint"

_INSPECT: Final = """
WITH t AS MATERIALIZED (SELECT {now} AS now)
SELECT 'n', NULL, c.token, c.lim, greatest(0, c.closed - t.now), 0, NULL FROM {lease} AS c, t WHERE c.key = $1
UNION ALL
SELECT 'h', c.owner, c.token, 1, t.now - c.since, c.expires - t.now, c.info FROM {lease} AS c, t
WHERE c.key = $1 AND c.owner IS NOT NULL AND c.expires > t.now
UNION ALL
SELECT 'h', h.owner, h.token, h.permits, t.now - h.since, h.expires - t.now, h.info FROM {holder} AS h, t
WHERE h.key = $1 AND h.expires > t.now
UNION ALL
SELECT 'w', w.owner, w.number, w.permits, t.now - w.since, 0, w.info FROM {line} AS w, t
WHERE w.key = $1 AND w.expires > t.now
ORDER BY 1, 3
"""
_NAMES: Final = """
WITH t AS MATERIALIZED (SELECT {now} AS now)
SELECT c.key, c.name FROM {lease} AS c, t
WHERE c.key > $1 AND c.key < $2 AND (
  (c.owner IS NOT NULL AND c.expires > t.now)
  OR (c.used > 0 AND EXISTS (SELECT FROM {holder} AS h WHERE h.key = c.key AND h.expires > t.now))
  OR (c.busy > 0 AND EXISTS (SELECT FROM {line} AS w WHERE w.key = c.key AND w.expires > t.now)))
ORDER BY c.key LIMIT $3
"""
_CELLS: Final = """
SELECT key, name FROM {cell}
WHERE key > $1 AND key < $2 AND value IS NOT NULL AND (expires IS NULL OR expires > {now})
ORDER BY key LIMIT $3
"""
_GET: Final = (
    "SELECT value, version FROM {cell} WHERE key = $1 AND value IS NOT NULL AND (expires IS NULL OR expires > {now})"
)
# Where pushes do not arrive: who of these owners holds what by now?
_LOOK: Final = """
SELECT t.owner, coalesce(h.token, c.token)
FROM unnest($1::text[], $2::text[]) AS t (key, owner)
LEFT JOIN {lease} AS c ON c.key = t.key AND c.owner = t.owner
LEFT JOIN {holder} AS h ON h.key = t.key AND h.owner = t.owner
WHERE c.token IS NOT NULL OR h.token IS NOT NULL
"""
_STATE: Final = "SELECT (SELECT version FROM {meta} WHERE id = 1), to_regproc('{sweep}') IS NOT NULL"


class Statement:
    """A statement to prepare: its text, and which parameters are bytes."""

    __slots__ = ("formats", "name", "text")

    def __init__(self, name: str, text: str, *raw: int, count: int = 0) -> None:
        self.name = name.encode()
        self.text = text.encode()
        self.formats = [int(at in raw) for at in range(1, count + 1)] if raw else None


class Statements:
    """The statements of one namespace."""

    def __init__(self, namespace: str) -> None:
        tables = Tables(namespace)
        dialect: Dialect = dialects.PGDialect_psycopg()  # type: ignore[no-untyped-call]
        quote = dialect.identifier_preparer.quote
        self.prefix = tables.prefix
        self._dialect = dialect
        self._tables = tables
        self._words: Mapping[str, str] = {
            **tables.quoted(dialect),
            "pace_table": quote(tables.pace.name),
            **{word: quote(f"{tables.prefix}_{word}_v{REVISION}") for word in _FUNCTIONS},
            "pinned": _PINNED,
            "durable": _DURABLE,
            "relaxed": _RELAXED,
            "taken": _TAKEN,
            "now": CLOCK,
            "memory": str(MEMORY),
            "hour": str(3600 * MICROS),
            "schema": str(SCHEMA_VERSION),
        }
        self.acquire = self._call("acquire", 10, 2, 9)
        self.acquire_all = self._call("acquire_all", 7, 7)
        self.release = self._call("release", 3)
        self.abandon = self._call("abandon", 4, 2)
        self.evict = self._call("evict", 2)
        self.write = self._call("write", 8, 2, 3)
        self.pace = self._call("pace", 4)
        self.sweep = self._call("sweep", 0)
        self.beat = self._statement("beat", "SELECT * FROM {beat}($1, $2, $3, $4, $5)")
        self.inspect = self._statement("inspect", _INSPECT)
        self.names = self._statement("names", _NAMES)
        self.cells = self._statement("cells", _CELLS)
        self.get = self._statement("get", _GET)
        self.look = self._statement("look", _LOOK)
        self.now = self._statement("now", "SELECT {now}")
        self.state = self._statement("state", _STATE)

    def ddl(self) -> list[str]:
        """What creates everything, in order. Safe to repeat."""
        tables = [text.strip() for text in self._tables.ddl(self._dialect) if not self._is_for_others(text)]
        # Room for new versions of a row beside the old ones, so that the index need not be told (HOT).
        roomy = [self._fill(f"ALTER TABLE {{{word}}} SET (fillfactor = 50)") for word in ("lease", "pace_table")]
        first = self._fill("INSERT INTO {meta} (id, version) VALUES (1, {schema}) ON CONFLICT DO NOTHING")
        functions = [part for name in _FILES for part in self._parts(name)]
        return [*tables, *roomy, first, *functions]

    def _is_for_others(self, text: str) -> bool:
        return re.match(rf"\s*CREATE TABLE IF NOT EXISTS {re.escape(self._words['news'])} ", text) is not None

    def _parts(self, name: str) -> list[str]:
        text = (files("locksmith_sql.postgresql") / "sql" / f"{name}.sql").read_text("utf-8")
        # The comments between functions are for readers of the files.
        text = self._fill(re.sub(r"(?m)^--.*\n", "", text))
        return [f"CREATE OR REPLACE {part.strip().rstrip(';')}" for part in text.split("CREATE OR REPLACE ")[1:]]

    def _call(self, word: str, count: int, *raw: int) -> Statement:
        places = ", ".join(f"${at}" for at in range(1, count + 1))
        return Statement(word, self._fill(f"SELECT {{{word}}}({places})"), *raw, count=count)

    def _statement(self, name: str, template: str) -> Statement:
        return Statement(name, self._fill(template).strip())

    def _fill(self, template: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: self._words[found[1]], template)
