"""What gRPC and etcd say, in locksmith's words: translated once, here."""

from __future__ import annotations

import re
from typing import Any, Final

import grpc

from locksmith import redact
from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable


class LeaseGone(StoreUnavailable):
    """The lease that a request named is not there any more: try again, on another one."""


class ChannelClosed(StoreUnavailable):
    """The user's gRPC channel was closed by the user: make another one, and connect again."""


_TRY_AGAIN: Final = (StoreUnavailable, "try again in a moment")
_TLS: Final = "use etcds:// for a server that speaks TLS and etcd:// for one that does not"
_Verdict = tuple[type[StoreError], str]

# By what etcd says: its codes alone do not tell. In this order.
_SAYINGS: Final[tuple[tuple[re.Pattern[str], _Verdict], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), verdict)
    for pattern, verdict in (
        ("requested lease not found", (LeaseGone, "it ended meanwhile: try again")),
        ("authentication failed", (StoreAuthError, "correct the username and password in the URL")),
        ("user name is empty", (StoreAuthError, "the server wants a user: write etcd://user:password@host")),
        ("invalid auth token|auth store is old", (StoreAuthError, "try again: the next request logs in anew")),
        ("permission denied", (StoreAuthError, "grant the user's role read and write on the prefix locksmith/")),
        ("database space exceeded", (StoreUnavailable, "compact and defragment it, then disarm the NOSPACE alarm")),
        ("too many requests", _TRY_AGAIN),
        (
            "CERTIFICATE_VERIFY_FAILED|Hostname Verification|not in peer certificate",
            (StoreAuthError, "correct ssl_ca_certs, or ssl_server_name, in the URL"),
        ),
        ("CERTIFICATE_REQUIRED|BAD_CERTIFICATE", (StoreAuthError, "give ssl_certfile and ssl_keyfile in the URL")),
        ("WRONG_VERSION_NUMBER|SSL_ERROR_SSL|handshake", (StoreProtocolError, _TLS)),
        ("http1.x server|http2 header with status", (StoreProtocolError, "check that this is the client port of etcd")),
    )
)
_CODES: Final[dict[Any, _Verdict]] = {
    grpc.StatusCode.UNAVAILABLE: (StoreUnavailable, f"check that the server runs and can be reached ({_TLS})"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        StoreUnavailable,
        "what became of the request is unknown; try again, or raise the option timeout",
    ),
    grpc.StatusCode.CANCELLED: _TRY_AGAIN,
    grpc.StatusCode.UNAUTHENTICATED: (StoreAuthError, "correct the username and password in the URL"),
    grpc.StatusCode.PERMISSION_DENIED: (
        StoreAuthError,
        "grant the user's role read and write on the prefix locksmith/",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (StoreProtocolError, "use etcd 3.4 or later, and its client port"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: _TRY_AGAIN,
}


def translate(error: Any) -> StoreError:
    """The StoreError for what gRPC raised; the caller raises it `from` the original."""
    said = redact.text(error.details() or error.code().name).strip().rstrip(".")
    kind, advice = _judge(error, said)
    return kind(f"etcd: {said}; {advice}.")


def _judge(error: Any, said: str) -> _Verdict:
    for pattern, verdict in _SAYINGS:
        if pattern.search(said):
            return verdict
    return _CODES.get(error.code(), (StoreProtocolError, "check that URL, server and version belong together"))


def is_elsewhere(error: Any) -> bool:
    """Whether another member, or this one in a moment, may answer what this error did not."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and translate(error).__class__ is StoreUnavailable


def is_refused(error: Any) -> bool:
    """Whether nobody listens there: the request was not sent."""
    return "failed to connect" in (error.details() or "").lower()


def is_old_token(error: Any) -> bool:
    """Whether logging in anew helps."""
    said = (error.details() or "").lower()
    return "invalid auth token" in said or "auth store is old" in said
