"""What is said on a new connection: who is there, what session it is to be, and whether our tables are ready.

Written as dialogues: generators that yield texts to send and get their results, or a `Refused` thrown in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Final, TypeAlias

from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError
from locksmith_sql.postgresql.errors import FORBIDDEN, MISSING, Refused, translate
from locksmith_sql.postgresql.statements import Statements
from locksmith_sql.postgresql.url import Server
from locksmith_sql.postgresql.wire import Result, Session
from locksmith_sql.schema import SCHEMA_VERSION

Dialogue: TypeAlias = Generator[bytes, list[Result], None]

OLDEST: Final = 120_000
"""PostgreSQL 12: MATERIALIZED, and plans of prepared statements that can be pinned."""
_WHO: Final = b"""SELECT pg_backend_pid(), current_setting('server_version_num'),
current_setting('default_transaction_isolation')"""
# Plans are made when the tables are empty, and must not be those for empty tables. The server gives up when we have.
_SESSION: Final = """SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off;
SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan; SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0; SET statement_timeout = {timeout}"""


def introduce(session: Session, server: Server) -> Dialogue:
    """Find out who is there, and set the session up. Raises StoreProtocolError."""
    found = (yield _WHO)[0]
    pid, version, level = (found.get_value(0, column).decode() for column in range(3))
    if int(version) < OLDEST:
        raise StoreProtocolError(f"PostgreSQL: version {int(version) // 10_000} is too old: 12 or later is needed.")
    # A pooler makes up the process id that it tells its clients.
    session.pooled = int(pid) != session.pg.backend_pid if server.pooled is None else server.pooled
    if session.pooled:
        session.wrapped = level != "read committed"
    else:
        yield _SESSION.format(timeout=max(1, round(server.timeout * 1000))).encode()


def check_tables(statements: Statements, address: str, *, lacking: bool) -> Dialogue:
    """Make sure that the tables and functions are there, and ours; `lacking`: some are not. Raises StoreError."""
    version, complete = yield from _look(statements)
    if version is None or not complete or lacking:
        yield from create(statements)
        version, complete = yield from _look(statements)
    if version != SCHEMA_VERSION:
        raise StoreProtocolError(
            f"PostgreSQL: the tables {statements.prefix}_* at {address} have version {version}, this locksmith writes "
            f"version {SCHEMA_VERSION}: use one version of locksmith for one database, or another namespace."
        )


def create(statements: Statements) -> Dialogue:
    """Create what is missing, in one transaction, one client at a time. Raises StoreError."""
    key = int.from_bytes(hashlib.sha256(f"locksmith {statements.prefix}".encode()).digest()[:8], "big", signed=True)
    # Several statements in one text are one transaction.
    texts = [f"SELECT pg_advisory_xact_lock({key})", "SET LOCAL client_min_messages = warning", *statements.ddl()]
    try:
        yield ";\n".join(texts).encode()
    except Refused as refused:
        if refused.state == FORBIDDEN:
            raise StoreAuthError(
                f"PostgreSQL: {refused}; this user may not create the tables {statements.prefix}_*: have somebody who "
                "may run `locksmith init` (or print the statements with --sql), and grant this user their use."
            ) from refused
        raise translate(refused) from refused


def _look(statements: Statements) -> Generator[bytes, list[Result], tuple[int | None, bool]]:
    try:
        found = (yield statements.state.text)[0]
    except Refused as refused:
        if refused.state in MISSING:
            return None, False
        if refused.state == "42703":  # no such column: a table of somebody else's
            return -1, True
        raise
    version = found.get_value(0, 0)
    return None if version is None else int(version), found.get_value(0, 1) == b"t"


def explain(error: BaseException) -> StoreError:
    """The StoreError for anything that opening may raise."""
    return error if isinstance(error, StoreError) else translate(error)
