"""What MariaDB, MySQL and their drivers say, in locksmith's words: translated once, here.

All drivers give the server's own numbers (https://mariadb.com/kb/en/mariadb-error-codes/) as the first argument of
their exceptions; those from 2000 to 2999 are the client's.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from sqlalchemy.exc import DBAPIError

from locksmith import redact
from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable

DEADLOCK: Final = frozenset({1205, 1213})
"""Nothing was done, and asking again may do it: a deadlock's victim, a row lock that was waited for in vain."""
HUNG_UP: Final = frozenset({1053, 1152, 1927, 4031})
"""The server's last words on a connection that it had closed before our request: nothing was done."""
NO_TABLE: Final = frozenset({1146, 1305})
"""A table or a procedure of ours is not there."""
EXISTS: Final = frozenset({1050, 1061, 1304})
"""Somebody else has just created it."""
FORBIDDEN: Final = frozenset({1044, 1142, 1143, 1227, 1370, 1419})
_NOT_SENT: Final = 2006
# The statement failed as a whole, or the procedure's handler has rolled everything back.
_CLEAN: Final = DEADLOCK | NO_TABLE | EXISTS | FORBIDDEN | {1054}

_Verdict: TypeAlias = tuple[type[StoreError], str]
_WHO: Final = "correct the user and the password in the URL (a server that insists on TLS says the same: ssl=required)"
_RIGHTS: Final = "give this user the rights that docs/stores/mysql.md lists"
_FULL: Final = "the server cannot write: make room on its disk"
_BUSY: Final = "too many connections are open: raise max_connections, or let fewer clients connect"
_READ_ONLY: Final = "this server is read-only: connect to the primary"
_CHANGED: Final = "the tables were changed under us: leave them alone, or run `locksmith init`"

_CODES: Final[dict[int, _Verdict]] = {
    **dict.fromkeys((1045, 1698), (StoreAuthError, _WHO)),
    1130: (StoreAuthError, "let this host connect (CREATE USER 'name'@'host')"),
    1862: (StoreAuthError, "the password has expired: set another one"),
    **dict.fromkeys(FORBIDDEN, (StoreAuthError, _RIGHTS)),
    1049: (StoreProtocolError, "there is no such database: create it, or correct the URL"),
    **dict.fromkeys((1146, 1305, 1054, 1318), (StoreProtocolError, _CHANGED)),
    1665: (StoreProtocolError, "set binlog_format to MIXED or ROW: statements alone cannot be replicated safely"),
    **dict.fromkeys((1290, 1836, 1792, 1874), (StoreUnavailable, _READ_ONLY)),
    **dict.fromkeys((1040, 1203, 1226, 1129), (StoreUnavailable, _BUSY)),
    **dict.fromkeys((1021, 1030, 1041, 1114, 1026), (StoreUnavailable, _FULL)),
    1205: (StoreUnavailable, "somebody holds a row of ours in a transaction: try again, and leave the tables alone"),
    1213: (StoreUnavailable, "the server chose this request as the victim of a deadlock: try again"),
    **dict.fromkeys((1317, 1969, 3024), (StoreUnavailable, "the server broke the request off: try again")),
    **dict.fromkeys(HUNG_UP, (StoreUnavailable, "the server closed the connection: try again")),
    1047: (StoreUnavailable, "this node is not part of the Galera cluster just now: try again, or use another node"),
}
_UNREACHABLE: Final = "check that a MariaDB or MySQL server runs there and can be reached, and try again"

# In this order.
_SAYINGS: Final[tuple[tuple[re.Pattern[str], _Verdict], ...]] = (
    (
        re.compile("certificate", re.IGNORECASE),
        (StoreAuthError, "correct the TLS options of the URL (ssl_ca, ssl_cert, ssl_key)"),
    ),
    (
        re.compile("insecure transport|require_secure_transport", re.IGNORECASE),
        (StoreAuthError, "this server insists on TLS: give the URL ssl=required, or ssl_ca=..."),
    ),
    (
        re.compile("doesn't support SSL|SSL is required|not support TLS", re.IGNORECASE),
        (StoreProtocolError, "this server does not speak TLS: take the TLS options out of the URL"),
    ),
    (re.compile("SSL|TLS"), (StoreProtocolError, "TLS failed: check the TLS options of the URL, and the server's")),
    (re.compile("timed out|TimeoutError"), (StoreUnavailable, "what became of the request is unknown; try again")),
)


def code_of(error: BaseException) -> int:
    """The error's number, or 0."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) and not isinstance(error, OSError) else 0


def answered(error: BaseException) -> bool:
    """Whether the server itself refused the request; the connection goes on."""
    code = code_of(error)
    return (1000 <= code < 2000 and code not in HUNG_UP) or (code >= 3000 and code not in HUNG_UP)


def clean(error: BaseException) -> bool:
    """Whether the connection may be used again after this answer.

    A procedure that is killed between two of its statements (KILL QUERY) runs no handlers: its transaction stays open,
    the session keeps the locks of rows and bells, and the next grant would be a part of that transaction.
    """
    return code_of(error) in _CLEAN


def undone(error: BaseException) -> bool:
    """Whether the connection is gone and the request was certainly not carried out."""
    return code_of(error) in HUNG_UP or code_of(error) == _NOT_SENT


def translate(error: BaseException) -> StoreError:
    """The StoreError for what the driver raised; the caller raises it `from` the original."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    code = code_of(error)
    said = redact.text(error.args[1] if code and len(error.args) > 1 else error) or type(error).__name__
    kind, advice = _judge(code, f"{said} {type(error).__name__} {error.__cause__ or error.__context__ or ''}", error)
    return kind(f"MariaDB/MySQL: {said.rstrip('. ')}{f' ({code})' if code else ''}; {advice}.")


def _judge(code: int, text: str, error: BaseException) -> _Verdict:
    if code in _CODES:
        return _CODES[code]
    for said, verdict in _SAYINGS:
        if said.search(text):
            return verdict
    if 2000 <= code < 3000 or isinstance(error, OSError | EOFError):
        return StoreUnavailable, _UNREACHABLE
    return StoreProtocolError, "check that URL, server and version belong together"
