"""The tables of one namespace, as SQLAlchemy sees them. Neutral: what a dialect needs besides is its own business.

All moments are microseconds of the store's clock (what that is, the dialect says), all durations microseconds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

SCHEMA_VERSION: Final = 1

# SQL folds the case of identifiers, so only lower case is taken as it is. Two underscores mark what is hashed.
_PLAIN: Final = re.compile(r"(?!.*__)[a-z][a-z0-9_]{0,31}")
_NOT_SAFE: Final = re.compile(r"[^a-z0-9]+")

# Keys and owners are ASCII, compared byte by byte whatever the collation of the database. MySQL and MariaDB index no
# TEXT, give it no default value, and a BLOB without a length ends one byte before our largest cell. PostgreSQL keeps
# no text that the encoding of the database does not know, nor the character zero: what users wrote is bytes there.
_MYSQL: Final = ("mysql", "mariadb")
_C: Final = sa.Text(collation="C")
_KEY: Final = (
    sa.Text(collation="BINARY")
    .with_variant(sa.String(160, collation="ascii_bin"), *_MYSQL)
    .with_variant(_C, "postgresql")
)
_WORD: Final = sa.Text().with_variant(sa.String(64, collation="ascii_bin"), *_MYSQL).with_variant(_C, "postgresql")
_INFO: Final = (
    sa.Text()
    .with_variant(sa.String(8000, collation="utf8mb4_bin"), *_MYSQL)
    .with_variant(sa.LargeBinary(), "postgresql")
)
_LEADS: Final = sa.Text().with_variant(sa.String(128, collation="ascii_bin"), *_MYSQL).with_variant(_C, "postgresql")
_VALUE: Final = sa.LargeBinary().with_variant(sa.LargeBinary(1 << 20), *_MYSQL)


def prefix(namespace: str) -> str:
    """What the names of a namespace's tables begin with: one to one, and nothing but lower-case letters and digits."""
    if _PLAIN.fullmatch(namespace):
        return namespace
    digest = hashlib.sha256(namespace.encode("utf-8", "surrogatepass")).hexdigest()
    readable = _NOT_SAFE.sub("_", namespace.lower()).strip("_")[:16].strip("_")
    return f"n{readable and '_' + readable}__{digest[:20]}"


class Tables:
    """The tables of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.prefix = prefix(namespace)
        self.metadata = sa.MetaData()
        self.meta = self._table(
            "meta",
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("version", sa.Integer, nullable=False),
            # Where the sweep of idle names goes on, and when (wall clock).
            sa.Column("sweep_key", _KEY, nullable=False, server_default=""),
            sa.Column("sweep_at", sa.BigInteger, nullable=False, server_default="0"),
        )
        self.lease = self._table(
            "lease",
            sa.Column("key", _KEY, primary_key=True),
            # The name where the key only holds its hash: bytes, because names may hold lone surrogates.
            sa.Column("name", sa.LargeBinary),
            _number("token"),
            _number("lim"),
            # Which clock the moments of this name were read from.
            _number("era"),
            # The holder of a name whose limit is 1: inline, so that one statement takes it and one gives it back.
            sa.Column("owner", _WORD),
            _number("expires"),
            _number("since"),
            _number("ttl"),
            _number("delay"),
            sa.Column("info", _INFO, nullable=False, server_default=""),
            # Permits in the hands of holders of a name whose limit is more than 1; they are in `holder`.
            _number("used"),
            # The length of the line, its last ticket, and how many owners are refused: 0 on the fast path.
            _number("busy"),
            _number("tickets"),
            _number("tombs"),
            _number("closed"),
            # Wall clock of the last use.
            _number("seen"),
        )
        self.holder = self._table(
            "holder",
            sa.Column("key", _KEY, primary_key=True),
            sa.Column("owner", _WORD, primary_key=True),
            _number("token"),
            _number("permits"),
            _number("expires"),
            _number("since"),
            _number("ttl"),
            _number("delay"),
            sa.Column("info", _INFO, nullable=False),
        )
        sa.Index(f"{self.prefix}_due", self.holder.c.key, self.holder.c.expires)
        self.line = self._table(
            "line",
            sa.Column("key", _KEY, primary_key=True),
            sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("owner", _WORD, nullable=False),
            sa.Column("client", _WORD, nullable=False),
            _number("permits"),
            _number("expires"),
            _number("since"),
            _number("waiter_ttl"),
            _number("delay"),
            sa.Column("info", _INFO, nullable=False),
        )
        sa.Index(f"{self.prefix}_place", self.line.c.key, self.line.c.owner, unique=True)
        # Grants handed to waiters of other clients, until these confirm them. Advice only: the beat finds them too.
        self.news = self._table(
            "news",
            sa.Column("client", _WORD, primary_key=True),
            sa.Column("owner", _WORD, primary_key=True),
            _number("number"),
            _number("token"),
            _number("seen"),
        )
        self.tomb = self._table(
            "tomb",
            sa.Column("key", _KEY, primary_key=True),
            sa.Column("owner", _WORD, primary_key=True),
            _number("expires"),
        )
        self.cell = self._table(
            "cell",
            sa.Column("key", _KEY, primary_key=True),
            sa.Column("name", sa.LargeBinary),
            # NULL: deleted; the version stays for a day, so that it grows across deletion.
            sa.Column("value", _VALUE),
            _number("version"),
            _number("era"),
            sa.Column("expires", sa.BigInteger),
            sa.Column("expires_wall", sa.BigInteger),
            # From when on the row may be deleted (wall clock); NULL: it stays.
            sa.Column("sweep_at", sa.BigInteger),
        )
        sa.Index(f"{self.prefix}_old", self.cell.c.sweep_at)
        # The state of locksmith.pacing; no leads: nothing was taken yet.
        self.pace = self._table(
            "pace",
            sa.Column("key", _KEY, primary_key=True),
            _number("seen"),
            _number("last"),
            # One for each rate, with spaces between them.
            sa.Column("leads", _LEADS, nullable=False, server_default=""),
            # Where `seen` was read from another clock than this, it was that clock and so much.
            _number("era"),
            _number("shift"),
            # From when on the row may be deleted (wall clock).
            _number("sweep_at"),
        )
        sa.Index(f"{self.prefix}_done", self.pace.c.sweep_at)

    def quoted(self, dialect: Dialect) -> Mapping[str, str]:
        """The tables' names as the dialect writes them into a statement."""
        quote = dialect.identifier_preparer.quote
        return {table.info["word"]: quote(table.name) for table in self.metadata.sorted_tables}

    def ddl(self, dialect: Dialect) -> list[str]:
        """The statements that create what is missing."""
        statements: list[str] = []
        for table in self.metadata.sorted_tables:
            statements.append(str(sa.schema.CreateTable(table, if_not_exists=True).compile(dialect=dialect)))
            statements.extend(
                str(sa.schema.CreateIndex(index, if_not_exists=True).compile(dialect=dialect))
                for index in sorted(table.indexes, key=lambda index: str(index.name))
            )
        return statements

    def _table(self, word: str, *columns: sa.Column[object]) -> sa.Table:
        # Rows are found by key alone: without rowid SQLite keeps them in the index itself, one lookup instead of two.
        return sa.Table(
            f"{self.prefix}_{word}",
            self.metadata,
            *columns,
            info={"word": word},
            sqlite_with_rowid=word == "meta",
            mysql_engine="InnoDB",
            mysql_charset="utf8mb4",
            mysql_collate="utf8mb4_bin",
        )


def _number(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
