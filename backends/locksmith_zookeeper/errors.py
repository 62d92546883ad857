"""What kazoo and the server say, in locksmith's words: translated once, here."""

from __future__ import annotations

from typing import Final

from kazoo import exceptions as driver

from locksmith import redact
from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable

LOST: Final = (
    driver.ConnectionLoss,
    driver.SessionExpiredError,
    driver.ConnectionClosedError,
    driver.SessionMovedError,
)
"""The connection or the session ended before the answer came: ask again."""

_SAYINGS: Final[tuple[tuple[type[Exception], type[StoreError], str], ...]] = (
    (
        driver.NoAuthError,
        StoreAuthError,
        "the server does not let us use {path}: give this user create, read, write and delete there",
    ),
    (driver.AuthFailedError, StoreAuthError, "the server refused our credentials: correct them in the URL"),
    (driver.InvalidACLError, StoreAuthError, "the server does not accept our ACL for {path}: check user and password"),
    (
        driver.NotReadOnlyCallError,
        StoreUnavailable,
        "this server has lost its quorum and only answers reads: try again when the ensemble is whole",
    ),
    (driver.UnimplementedError, StoreProtocolError, "the server does not know a request: use ZooKeeper 3.5 or later"),
    (LOST[0], StoreUnavailable, "the connection was lost, what became of the request is unknown: try again"),
    (LOST[1], StoreUnavailable, "the session ended while we asked: try again"),
    (LOST[2], StoreUnavailable, "the connection was closed while we asked: try again"),
)


def translate(error: BaseException, path: str) -> StoreError:
    """The StoreError for what kazoo raised about a node; the caller raises it `from` the original."""
    for kind, ours, advice in _SAYINGS:
        if isinstance(error, kind):
            return ours(f"ZooKeeper: {advice.format(path=path)}.")
    said = redact.text(error) or type(error).__name__
    return StoreProtocolError(f"ZooKeeper: {said} about {path}; check that URL, server and version belong together.")
