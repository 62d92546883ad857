"""Guards for transactions of your own: a stale token's transaction is refused, whatever store the lease is from.

The check is a statement of the transaction that it protects. It locks the resource's row until the end of that, so that
check and writes take effect together: a later holder's guard waits for it, and is waited for.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from locksmith import names
from locksmith.errors import ConfigurationError
from locksmith.fencing import AnyLease, fences, stale

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session, scoped_session

TABLE: Final = "locksmith_fences"
_PATIENCE: Final = 5.0
_PAUSE: Final = 0.02
_MYSQL: Final = ("mysql", "mariadb")
_UPSERTS: Final = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_DIALECTS: Final = (*_UPSERTS, *_MYSQL)
# As the keys of the stores: ASCII, compared byte by byte whatever the collation of the database.
_KEY: Final = sa.String(names.MAX_KEY).with_variant(sa.String(names.MAX_KEY, collation="ascii_bin"), *_MYSQL)


def guard(
    session: Session | scoped_session[Session] | sa.Connection,
    lease: AnyLease,
    *,
    resource: str | None = None,
    table: str = TABLE,
) -> None:
    """Let this transaction go on unless a later holder has been at the resource; to be called first in it.

    Later holders' guards of the resource wait until this transaction ends, and this one for those of earlier holders.
    An equal token passes: one holder has as many transactions as it likes. What is rolled back was not here.

    `resource`: what is guarded, by default what the name of the lease says. All who write to it must use the same one,
    and tokens of one name of one store. `table`: where the highest tokens are kept, see `create_fences`.

    Raises StaleToken for a token that is too low: the transaction has been rolled back, and what was to be written must
    not be written in another one. Raises LeaseLost where the lease is known to be over before anything is sent;
    ConfigurationError. Whatever the database says comes as SQLAlchemy's exception, as from any other statement: roll
    back, and where it is a conflict (serialization failure, deadlock, "database is locked") run the transaction again.
    """
    if hasattr(session, "run_sync"):
        raise ConfigurationError(f"this is a {type(session).__name__}: await guard_async")
    wanted = fences(lease)
    if resource is not None and len(wanted) != 1:
        raise ConfigurationError("a resource is guarded by one name: leave resource out for a lease with several")
    connection = session if isinstance(session, sa.Connection) else session.connection()
    _refuse_unusable(connection)
    for fence in wanted:
        key = names.encode(fence.name if resource is None else resource)
        seen = _raised(connection, table, key, fence.token)
        if seen is None or seen > fence.token:
            # Here and not in the caller's hands: a caller that swallows the exception has nothing left to commit.
            session.rollback()
            raise stale(fence, seen)


async def guard_async(
    session: AsyncSession | AsyncConnection, lease: AnyLease, *, resource: str | None = None, table: str = TABLE
) -> None:
    """`guard` for SQLAlchemy's asyncio."""
    if not hasattr(session, "run_sync"):
        raise ConfigurationError(f"this is a {type(session).__name__}: call guard, without await")
    await session.run_sync(guard, lease, resource=resource, table=table)


def fences_table(metadata: sa.MetaData, name: str = TABLE) -> sa.Table:
    """The table of highest tokens, for the metadata that your migrations are made from."""
    return sa.Table(
        name,
        metadata,
        sa.Column("resource", _KEY, primary_key=True),
        sa.Column("token", sa.BigInteger, nullable=False),
        mysql_engine="InnoDB",
    )


def create_fences(bind: sa.Engine | sa.Connection, name: str = TABLE) -> None:
    """Create that table where it is not there. For an AsyncConnection: `await connection.run_sync(create_fences)`.

    Raises ConfigurationError for a dialect that has no guard, SQLAlchemy's exceptions for what the database says.
    """
    _refuse_unknown(bind.dialect.name)
    table = fences_table(sa.MetaData(), name)
    statement = CreateTable(table, if_not_exists=True)
    if isinstance(bind, sa.Connection):
        bind.execute(statement)
        return
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            with bind.begin() as connection:
                connection.execute(statement)
        except DBAPIError as error:
            # PostgreSQL: of two that create it at one time the second one fails in spite of IF NOT EXISTS.
            if sa.inspect(bind).has_table(name):
                return
            # SQLite: reading the schema began a transaction, and whoever reads does not wait for a writer.
            if "database is locked" not in str(error.orig) or time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _raised(connection: sa.Connection, table: str, key: str, token: int) -> int | None:
    """The highest token of the resource, ours included, in a row that is locked now. None: higher, and gone since."""
    dialect = connection.dialect.name
    upsert, look = _statements(dialect, table)
    mine = {"fenced_key": key, "fenced_token": token}
    try:
        result = connection.execute(upsert, mine)
        if dialect in _UPSERTS and result.first() is not None:
            return token
        found = connection.execute(look, {"fenced_key": key}).first()
        return None if found is None else int(found[0])
    except DBAPIError as error:
        if not _no_table(error):
            raise
        raise ConfigurationError(
            f"there is no table {table} in this database: create it with locksmith_sql.fencing.create_fences"
        ) from error


# Made once: SQLAlchemy compiles statements about a table again that it has not seen before, which takes milliseconds.
@lru_cache(maxsize=256)
def _statements(dialect: str, name: str) -> tuple[Any, Any]:
    """What raises a resource's token to ours unless it is higher, and what reads it in the same transaction."""
    table = fences_table(sa.MetaData(), name)
    key, token = sa.bindparam("fenced_key", type_=_KEY), sa.bindparam("fenced_token", type_=sa.BigInteger())
    look = sa.select(table.c.token).where(table.c.resource == key)
    if dialect in _MYSQL:
        insert = mysql.insert(table).values(resource=key, token=token)
        # A locking read: the newest row, where a plain one would show that of the snapshot.
        return insert.on_duplicate_key_update(token=sa.func.greatest(table.c.token, token)), look.with_for_update()
    # Waits for whoever has the row. READ COMMITTED then compares with what that one has committed; under stricter
    # levels the statement fails instead, because the row has changed since the snapshot.
    upsert: Any = _UPSERTS[dialect](table).values(resource=key, token=token)
    upsert = upsert.on_conflict_do_update(
        index_elements=[table.c.resource], set_={"token": token}, where=table.c.token <= token
    )
    return upsert.returning(table.c.token), look


def _refuse_unknown(dialect: str) -> None:
    if dialect not in _DIALECTS:
        raise ConfigurationError(f"there is no guard for {dialect}; there are guards for {', '.join(_DIALECTS)}")


def _refuse_unusable(connection: sa.Connection) -> None:
    _refuse_unknown(connection.dialect.name)
    level = connection.get_execution_options().get("isolation_level")
    # Where create_engine was told, SQLAlchemy has no public word for it.
    level = level or getattr(connection.dialect, "_on_connect_isolation_level", None)
    if level == "AUTOCOMMIT":
        raise ConfigurationError(
            "this connection is in AUTOCOMMIT: a guard is worth nothing outside of the transaction that it protects"
        )


def _no_table(error: DBAPIError) -> bool:
    cause: Any = error.orig
    with suppress(AttributeError, IndexError, TypeError):
        if cause.args[0] == 1146:
            return True
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state == "42P01" or "no such table" in str(cause)
