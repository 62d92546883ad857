"""Requests as kazoo sends them, and replies that tell us on kazoo's own thread.

Kazoo's public methods answer through a thread of callbacks, which costs a thread switch more; here a request is put
into the same queue with a reply of ours. Requests of one client are sent, served and answered in that queue's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kazoo.protocol.serialization import (
    CheckVersion,
    Create,
    Create2,
    Delete,
    Exists,
    GetChildren,
    GetData,
    SetData,
    Sync,
    Transaction,
)

from locksmith.runtime import Event

EPHEMERAL = 1
EPHEMERAL_SEQUENTIAL = 3
CONTAINER = 4


class CreateContainer(Create2):  # type: ignore[misc]  # kazoo has no types
    """A node that the server removes some time after its last child is gone; kazoo does not know of those."""

    type = 19


class Reply:
    """One answer; kazoo calls `set` or `set_exception`, sometimes twice, and the first one counts."""

    __slots__ = ("_then", "answered", "value")

    def __init__(self, then: Callable[[Reply], object]) -> None:
        self._then = then
        self.answered = False
        self.value: Any = None

    def set(self, value: Any = None) -> None:
        """The server's answer."""
        if not self.answered:
            self.value = value
            self.answered = True
            self._then(self)

    def set_exception(self, error: BaseException) -> None:
        """What the server, or kazoo for want of one, says instead."""
        self.set(error)


class Batch:
    """Requests that were sent together, and the event that is set when all of them are answered."""

    __slots__ = ("_event", "_late", "_replies", "since")

    def __init__(self, event: Event, since: float) -> None:
        self._event = event
        self._late: Callable[[], object] | None = None
        self._replies: Sequence[Reply] = ()
        self.since = since

    def replies(self, count: int) -> Sequence[Reply]:
        """As many replies, to be sent with the requests."""
        self._replies = [Reply(self._one) for _ in range(count)]
        return self._replies

    def _one(self, _: Reply) -> None:
        if self._all_answered():
            self._event.set()
            if self._late is not None:
                self._late()

    def _all_answered(self) -> bool:
        return all(reply.answered for reply in self._replies)

    async def wait(self, timeout: float) -> list[Any] | None:
        """The answers, errors among them; None where they did not come in time."""
        if not await self._event.wait(timeout) and not self._event.is_set():
            return None
        return [reply.value for reply in self._replies]

    def call_late(self, fn: Callable[[], object]) -> None:
        """Nobody waits any more: call this once all are answered, on kazoo's thread."""
        self._late = fn
        if self._all_answered():
            fn()


__all__ = [
    "CONTAINER",
    "EPHEMERAL",
    "EPHEMERAL_SEQUENTIAL",
    "Batch",
    "CheckVersion",
    "Create",
    "Create2",
    "CreateContainer",
    "Delete",
    "Exists",
    "GetChildren",
    "GetData",
    "Reply",
    "SetData",
    "Sync",
    "Transaction",
]
