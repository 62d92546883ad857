"""Connections that a user's engine opens: with its settings and its events, and out of its pool for good."""

from __future__ import annotations

from typing import Any

from psycopg import pq
from sqlalchemy.exc import SQLAlchemyError

from locksmith import redact
from locksmith.runtime import Runtime
from locksmith_sql.postgresql.errors import Broken


def open_blocking(engine: Any) -> tuple[Any, Any]:
    """A PGconn, and what closes it, from an Engine. Raises Broken."""
    try:
        held = engine.connect()
    except SQLAlchemyError as error:
        raise _broken(error) from error
    try:
        # Detached: what is set on it stays with us, and the user's pool is not short of one.
        driver: Any = held.connection.driver_connection
        held.detach()
        if driver.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            driver.rollback()
        return driver.pgconn, held
    except BaseException:
        held.close()
        raise


async def open_async(engine: Any, runtime: Runtime) -> tuple[Any, Any]:
    """The same on an event loop, from an AsyncEngine, or in a thread from an Engine. Raises Broken."""
    if not engine.dialect.is_async:
        return await runtime.call(lambda: open_blocking(engine))
    try:
        held = await engine.connect()
    except SQLAlchemyError as error:
        raise _broken(error) from error
    raw: Any = await held.get_raw_connection()
    driver = raw.driver_connection
    raw.detach()
    if driver.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        await driver.rollback()
    # libpq's connection is closed by us; closing the wrappers takes a greenlet, and would find nothing to do.
    return driver.pgconn, _Kept(held, raw)


class _Kept:
    """Keeps SQLAlchemy's wrappers alive for as long as their connection is in use."""

    def __init__(self, *wrappers: object) -> None:
        self._wrappers = wrappers

    def close(self) -> None:
        self._wrappers = ()


def _broken(error: SQLAlchemyError) -> Broken:
    return Broken(redact.text(getattr(error, "orig", None) or error))
