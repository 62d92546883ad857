"""What PostgreSQL and libpq say, in locksmith's words: the one place that reads SQLSTATEs."""

from __future__ import annotations

import re
from typing import Final

from locksmith import redact
from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable
from locksmith_sql.postgresql.statements import NOT_PINNED


class Refused(Exception):
    """The server's answer was an error; the connection goes on unless `fatal`."""

    def __init__(self, state: str, text: str, *, fatal: bool = False) -> None:
        super().__init__(text)
        self.state = state
        self.fatal = fatal


class Broken(Exception):
    """The connection ended; what became of the request on it is unknown."""


class Late(Exception):
    """Nothing came in time; what became of the request is unknown."""


Trouble = (Refused, Broken, Late)

RETRIED: Final = frozenset({"40001", "40P01"})
"""Serialization failure, deadlock: nothing was done."""
MISSING: Final = frozenset({"42P01", "42883", "42704", "3F000"})
"""No such table, function, row type, schema."""
FORBIDDEN: Final = "42501"

_AUTH: Final = (StoreAuthError, "correct user and password in the URL, or the server's pg_hba.conf")
_DDL: Final = "have its owner run `locksmith init`, which creates the tables (or print the statements with --sql)"
_GONE: Final = "the tables were dropped: connect again, or run `locksmith init`"
_POOLER: Final = "a pooler seems to be in between that hides itself: add ?pooler=transaction to the URL"
_STATES: Final[dict[str, tuple[type[StoreError], str]]] = {
    "28": _AUTH,
    "3D000": (StoreAuthError, "there is no such database: create it, or correct the URL"),
    "42501": (StoreAuthError, f"this user lacks a right here: {_DDL}, and grant it the use of tables and functions"),
    "25006": (StoreUnavailable, "this server only reads, as a replica does: connect to the primary"),
    "25": (StoreProtocolError, "the connection is in an unexpected transaction: is something else using it?"),
    "42P01": (StoreProtocolError, _GONE),
    "42883": (StoreProtocolError, _GONE),
    "42704": (StoreProtocolError, _GONE),
    "3F000": (StoreProtocolError, "there is no schema to create tables in: set search_path, or create one"),
    "42": (StoreProtocolError, "the tables are not as this version made them: use another namespace"),
    "53300": (StoreUnavailable, "the server has no connection left: raise max_connections, or use a pooler"),
    "53100": (StoreUnavailable, "the server's disk is full: free some space"),
    "53": (StoreUnavailable, "the server lacks resources: try again later"),
    "57014": (StoreUnavailable, "the server took too long: look for what blocks it, or raise the option timeout"),
    "57": (StoreUnavailable, "the server is being stopped or started: try again in a moment"),
    "40": (StoreUnavailable, "others were in the way again and again: try again"),
    "08P01": (StoreProtocolError, "is this a PostgreSQL server? A pooler may refuse one of the URL's options, too"),
    "08": (StoreUnavailable, "try again"),
    "0A000": (StoreProtocolError, "the server does not know something this needs: PostgreSQL 12 or later is"),
    "26000": (StoreProtocolError, _POOLER),
    "42P05": (StoreProtocolError, _POOLER),
    NOT_PINNED: (StoreProtocolError, "add ?pooler=transaction to the URL, or set default_transaction_isolation back"),
}
# While a connection is made libpq passes on words alone, without SQLSTATE.
_SAYINGS: Final[tuple[tuple[re.Pattern[str], tuple[type[StoreError], str]], ...]] = (
    (re.compile(r"password authentication failed|no password supplied|authentication failed|SASL"), _AUTH),
    (re.compile(r"no pg_hba.conf entry|role .* does not exist|pg_hba.conf rejects|is not permitted to log in"), _AUTH),
    (re.compile(r"database .* does not exist"), _STATES["3D000"]),
    (re.compile(r"permission denied"), _AUTH),
    (
        re.compile(r"server does not support SSL|certificate|SSL error|sslmode|SSL is not", re.IGNORECASE),
        (StoreAuthError, "correct the TLS options of the URL (sslmode, sslrootcert, sslcert, sslkey)"),
    ),
    (re.compile(r"too many clients|remaining connection slots|no more connections"), _STATES["53300"]),
    (re.compile(r"starting up|shutting down|recovery mode|not yet accepting"), _STATES["57"]),
    (re.compile(r"session is read-only|is in hot standby|is not in hot standby|cannot execute"), _STATES["25006"]),
    (
        re.compile(r"received invalid response|expected authentication request|unsupported frontend protocol"),
        (StoreProtocolError, "this is no PostgreSQL server: check host and port"),
    ),
    (re.compile(r"unsupported startup parameter"), _STATES["08P01"]),
)


def translate(error: BaseException) -> StoreError:
    """The StoreError for this trouble; the caller raises it `from` the original."""
    text = redact.text(error).strip().rstrip(".")
    if isinstance(error, Late):
        return StoreUnavailable(
            f"PostgreSQL: {text}; what became of the request is unknown: try again, or raise the option timeout."
        )
    kind, advice = _judge(error, text)
    return kind(f"PostgreSQL: {text}; {advice}.")


def _judge(error: BaseException, text: str) -> tuple[type[StoreError], str]:
    if isinstance(error, Refused) and error.state:
        for known in (error.state, error.state[:2]):
            if known in _STATES:
                return _STATES[known]
        return StoreProtocolError, "check that URL, server and version belong together"
    for said, verdict in _SAYINGS:
        if said.search(text):
            return verdict
    return StoreUnavailable, "check host, port and network, and try again"
