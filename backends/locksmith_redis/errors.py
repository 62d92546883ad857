"""What redis-py and the server say, in locksmith's words: translated once, here."""

from __future__ import annotations

import re
import ssl
from typing import Final

from redis import exceptions as driver

from locksmith import redact
from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable

# Codes with which a server begins its refusals. Inside scripts they stand in the middle of a longer message.
_CODES: Final[dict[str, tuple[type[StoreError], str]]] = {
    "NOAUTH": (StoreAuthError, "give a password in the URL"),
    "WRONGPASS": (StoreAuthError, "correct the username and password in the URL"),
    "NOPERM": (StoreAuthError, "give this user the commands and keys of the ACL recipe in docs/stores/redis.md"),
    "DENIED": (StoreAuthError, "the server is in protected mode: set a password or bind it to a private address"),
    "LOADING": (StoreUnavailable, "the server is still reading its data: try again in a moment"),
    "READONLY": (StoreUnavailable, "this server is a replica: connect to the primary"),
    "MASTERDOWN": (StoreUnavailable, "this server is a replica without its primary: connect to the primary"),
    "MISCONF": (StoreUnavailable, "the server cannot write to its disk and refuses changes: make room there"),
    "OOM": (StoreUnavailable, "the server's memory is full: raise maxmemory or delete what is not needed"),
    "CLUSTERDOWN": (StoreUnavailable, "a part of the cluster is missing: try again when it is complete"),
    "TRYAGAIN": (StoreUnavailable, "the cluster is moving this key: try again"),
    "NOREPLICAS": (StoreUnavailable, "too few replicas are connected: try again when they are back"),
    "BUSY": (StoreUnavailable, "a script has been running on the server for too long: see SCRIPT KILL"),
    "UNKILLABLE": (StoreUnavailable, "a script has been running on the server for too long"),
    "MOVED": (StoreProtocolError, "this is a node of a Redis Cluster: write redis+cluster:// for it"),
    "ASK": (StoreProtocolError, "this is a node of a Redis Cluster: write redis+cluster:// for it"),
    "CROSSSLOT": (StoreProtocolError, "this is a Redis Cluster: write redis+cluster:// for it"),
    "WRONGTYPE": (StoreProtocolError, "something else uses a key of ours: choose another namespace"),
}
_CODE: Final = re.compile(rf"\b({'|'.join(_CODES)})\b")


def translate(error: BaseException) -> StoreError:
    """The StoreError for what the driver raised; the caller raises it `from` the original."""
    text = redact.text(error)
    if text != str(error):
        error.args = (text,)  # it is chained to ours, and a traceback shows both
    # Of a failed TLS handshake the driver's own words may be no more than a number (redis-py 5, asyncio).
    cause = error.__context__
    kind, advice = _judge(error, f"{text} {cause}" if isinstance(cause, ssl.SSLError) else text)
    return kind(f"Redis: {text.rstrip('. ')}; {advice}.")


def _judge(error: BaseException, text: str) -> tuple[type[StoreError], str]:
    if isinstance(error, driver.TimeoutError):
        return StoreUnavailable, "what became of the request is unknown; try again, or raise the option timeout"
    for said, verdict in _SAYINGS:
        if said.search(text):
            return verdict
    if isinstance(error, driver.ResponseError) and (code := _CODE.search(text)):
        return _CODES[code[0]]
    for kind, verdict in _KINDS:
        if isinstance(error, kind):
            return verdict
    return StoreProtocolError, "check that URL, server and version belong together"


# In this order.
_SAYINGS: Final[tuple[tuple[re.Pattern[str], tuple[type[StoreError], str]], ...]] = (
    # A missing permission within a script; Redis 6, 7.0 and later each in their own way.
    (re.compile("ACL failure in script|has no permissions to|user executing the script can't"), _CODES["NOPERM"]),
    # Who has not authenticated may not send long requests; the server calls that an error of the protocol.
    (re.compile("unauthenticated"), _CODES["NOAUTH"]),
    (
        re.compile("certificate", re.IGNORECASE),
        (StoreAuthError, "correct the TLS options of the URL (ssl_ca_certs, ssl_certfile, ssl_keyfile)"),
    ),
    # The alert that says why is lost where we were still writing when the server hung up.
    (
        re.compile("EOF occurred in violation of protocol|Connection reset by peer|Broken pipe"),
        (
            StoreUnavailable,
            (
                "check that the server runs, and try again; one that wants client certificates hangs up like this too: "
                "give it ssl_certfile and ssl_keyfile"
            ),
        ),
    ),
    (
        re.compile("SSL"),
        (StoreProtocolError, "use rediss:// for a server that speaks TLS and redis:// for one that does not"),
    ),
    (
        re.compile("unknown command", re.IGNORECASE),
        (StoreProtocolError, "the server does not know a command that locksmith needs: use Redis 6 or later"),
    ),
)

_KINDS: Final[tuple[tuple[type[Exception], tuple[type[StoreError], str]], ...]] = (
    (driver.AuthenticationError, _CODES["WRONGPASS"]),
    (driver.AuthorizationError, _CODES["NOPERM"]),
    (driver.NoPermissionError, _CODES["NOPERM"]),
    (driver.BusyLoadingError, _CODES["LOADING"]),
    (driver.ReadOnlyError, _CODES["READONLY"]),
    (driver.OutOfMemoryError, _CODES["OOM"]),
    (driver.ClusterDownError, _CODES["CLUSTERDOWN"]),
    (driver.AskError, _CODES["MOVED"]),
    # Last, because the driver derives some of the above from it.
    (driver.ConnectionError, (StoreUnavailable, "check that the server runs and can be reached, and try again")),
    (OSError, (StoreUnavailable, "check that the server runs and can be reached, and try again")),
)
