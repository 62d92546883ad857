"""Who of this client waits for what, and what to ask the server about it: shared by both hubs. No socket.

One blocking query for each waited *name*, however many wait for it. Of an exclusive name only the claim right ahead of
our first one is watched, so that a release wakes the next in line and nobody else; otherwise all claims of the name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Final, NamedTuple, TypeAlias

from locksmith import nodes
from locksmith.nodes import Node
from locksmith.store import Gone, Grant, Ticket
from locksmith_consul.base import Entry, entries, index_of
from locksmith_consul.claims import nodes_of, session_of
from locksmith_consul.http import OK, Reply
from locksmith_consul.keys import Keys

LONGEST: Final = 10.0
"""Seconds that the server may keep a query without an answer: after that we know that the agent lives."""
SHARE: Final = 3
"""A query is kept for at most this part of a waiter's ttl, so that a silent agent is noticed within the lease."""
LATER: Final = 1 + 1 / 16
"""By what factor the server may answer later than it was asked to."""
PAUSES: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Seconds between attempts after something went wrong; the last one repeats."""


class Ask(NamedTuple):
    """A request of a hub's."""

    target: str
    seconds: float
    """How long the server may take to answer, beyond what any request may take."""


Watch: TypeAlias = Generator[Ask, Reply, None]
Granting: TypeAlias = Callable[[Ticket, str], Grant | Gone]
"""The grant of a ticket that has its permits by this session."""


class Board:
    """The tickets of one client by name."""

    def __init__(self, keys: Keys, query: str, granting: Granting) -> None:
        self._keys = keys
        self._query = f"&{query}" if query else ""
        self._granting = granting
        self.reset()

    def reset(self) -> None:
        """Begin anew, with a lock that no other process has."""
        self._lock = threading.Lock()
        self._tickets: dict[str, dict[str, Ticket]] = {}

    def join(self, ticket: Ticket) -> bool:
        """Somebody waits for this ticket; whether all who wait for the name came to the board before and stand behind.

        Then what is watched may be this very claim, and not who stands before it.
        """
        behind = self.waiting(ticket.claim.key)
        with self._lock:
            self._tickets.setdefault(ticket.claim.key, {})[ticket.claim.owner] = ticket
        return bool(behind) and ticket.number < behind[0].number

    def forget(self, key: str, owner: str, ticket: Ticket | None = None) -> None:
        """Nobody waits any more (for this ticket; its owner may have a newer one)."""
        with self._lock:
            waiting = self._tickets.get(key, {})
            if ticket is None or waiting.get(owner) is ticket:
                waiting.pop(owner, None)
            if not waiting:
                self._tickets.pop(key, None)  # names come and go

    def waiting(self, key: str) -> list[Ticket]:
        """The tickets of a name that have no news, in order."""
        found = [ticket for ticket in list(self._tickets.get(key, {}).values()) if ticket.inbox.peek() is None]
        return sorted(found, key=lambda ticket: ticket.number)

    def watch(self, key: str, line: list[Node] | None, index: int) -> Watch:
        """What to ask about a name, request by request, until nobody waits for it.

        `line`: its claims, as far as they are known, and the `index` at which they were. Raises StoreError where an
        answer cannot be used.
        """
        while waiting := self.waiting(key):
            ahead = [node for node in line or () if node.order < waiting[0].number]
            if line is not None and ahead and all(node.limit == 1 for node in line):
                yield from self._until_gone(key, ahead[-1], waiting)
                line = None
            asked = {ticket.claim.owner for ticket in waiting}
            if line is None or not ahead:
                reply = yield Ask(self._listing(key), 0.0)
            else:
                reply = yield Ask(f"{self._listing(key)}&{_blocking(index, waiting)}", _span(waiting) * LATER)
            found = entries(reply)
            line = nodes_of(found)
            last, index = index, index_of(reply)
            if index < last:
                index = 0  # a server that was restored from a snapshot counts from somewhere else
            self._hear(key, found, line, asked)

    def _until_gone(self, key: str, node: Node, waiting: list[Ticket]) -> Generator[Ask, Reply, None]:
        """Until this claim ended, or nobody waits any more. May end too early."""
        place = f"/v1/kv/{self._keys.line(key)}{node.owner}"
        index = node.order
        while waiting:
            reply = yield Ask(f"{place}?{_blocking(index, waiting)}{self._query}", _span(waiting) * LATER)
            if reply.code != OK:
                return
            index = index_of(reply)
            waiting = self.waiting(key)

    def _listing(self, key: str) -> str:
        return f"/v1/kv/{self._keys.line(key)}?recurse&consistent{self._query}"

    def _hear(self, key: str, found: list[Entry], line: list[Node], asked: set[str]) -> None:
        """Tell those who have their permits, and those of `asked` who lost their place before this was asked."""
        first = nodes.granted(line)
        places = {node.owner: (at, node.order) for at, node in enumerate(line)}
        for ticket in self.waiting(key):
            owner = ticket.claim.owner
            at, number = places.get(owner, (-1, -1))
            if number == ticket.number:
                if at < first:
                    ticket.inbox.deliver(self._granting(ticket, session_of(found, owner)))
            elif owner in asked:
                ticket.inbox.deliver(Gone())


def _span(waiting: list[Ticket]) -> float:
    return min([LONGEST, *(ticket.claim.ttl / SHARE for ticket in waiting)])


def _blocking(index: int, waiting: list[Ticket]) -> str:
    return f"index={index}&wait={_span(waiting) * 1000:.0f}ms"
