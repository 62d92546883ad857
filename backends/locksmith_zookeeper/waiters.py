"""Those who stand in line, told by watches: on kazoo's threads, without a thread or a request of ours per waiter.

A claim for all permits (a lock, a writer) watches the node right before its own: nobody but the next one wakes up. Of
others, the first that has not got its permits watches all nodes before it; who stands behind such a one watches its
predecessor's *data*, to which the owner adds a mark once it has got its permits. A mark only wakes: who has permits
follows from the nodes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType, WatchedEvent

from locksmith.nodes import granted
from locksmith.store import Gone, Grant, Ticket
from locksmith_zookeeper.errors import LOST
from locksmith_zookeeper.line import Place, in_order
from locksmith_zookeeper.session import Session
from locksmith_zookeeper.spot import Spot
from locksmith_zookeeper.wire import GetChildren, GetData, Reply, SetData

MARK: Final = b" "
"""Appended to the data of a node, JSON, whose reading it does not change."""


class Waiters:
    """The tickets of one store whose turn has not come."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiter] = {}

    def enter(self, session: Session, ticket: Ticket, places: Sequence[Place]) -> None:
        """Watch for the turn of a ticket, whose line is this."""
        waiter = Waiter(session, ticket, self._done)
        self._waiting[ticket.claim.owner] = waiter
        waiter.look(places)

    def look(self, ticket: Ticket, places: Sequence[Place]) -> None:
        """A beat has seen the line: watch what is not watched yet."""
        waiter = self._waiting.get(ticket.claim.owner)
        if waiter is not None and waiter.ticket is ticket:
            waiter.look(places)

    def leave(self, owner: str) -> None:
        """Nobody waits any more."""
        waiter = self._waiting.pop(owner, None)
        if waiter is not None:
            waiter.over = True

    def _done(self, waiter: Waiter) -> None:
        if self._waiting.get(waiter.ticket.claim.owner) is waiter:
            del self._waiting[waiter.ticket.claim.owner]

    def connected(self, session: Session) -> None:
        """A connection was made: watches ended with the old one."""
        for waiter in list(self._waiting.values()):
            if waiter.session is session:
                waiter.watched.clear()
                waiter.ask()

    def lost(self, session: Session) -> None:
        """A session ended, and every place in line with it."""
        for waiter in list(self._waiting.values()):
            if waiter.session is session:
                waiter.end(Gone())

    def clear(self) -> None:
        """Forget them all."""
        self._waiting = {}


class Waiter:
    """One ticket, and the nodes it watches."""

    def __init__(self, session: Session, ticket: Ticket, done: Callable[[Waiter], object]) -> None:
        self.session = session
        self.ticket = ticket
        self.watched: set[str] = set()
        self.over = False
        self._done = done
        self._spot: Spot = ticket.state
        self._asking = False

    def look(self, places: Sequence[Place]) -> None:
        """Decide by the line as it is: the turn has come, the place is gone, or something is to be watched."""
        names = [place.node for place in places]
        if self._spot.node not in names:
            self.end(Gone())
            return
        at, first = names.index(self._spot.node), granted(places)
        if at < first:
            self.end(grant(self.session, self.ticket))
            return
        claim = self.ticket.claim
        some = places[:at] if claim.permits < claim.limit and at == first else places[at - 1 : at]
        for place in some:
            if place.node not in self.watched:
                self.watched.add(place.node)
                self._watch(place, marks=at > first)

    def _watch(self, place: Place, *, marks: bool) -> None:
        # Not "exists", which would leave a watch behind where the node is gone.
        def answered(reply: Reply) -> None:
            if isinstance(reply.value, NoNodeError) or (marks and _marked(reply.value)):
                self._fire(place.node)

        def fired(event: WatchedEvent) -> None:
            if event.type != EventType.NONE:  # that is the end of a connection
                self._fire(place.node)

        self.session.post(GetData(f"{self._spot.parent}/{place.node}", fired), answered)

    def _fire(self, node: str) -> None:
        self.watched.discard(node)
        self.ask()

    def ask(self) -> None:
        """List the line anew. An event that comes before the answer does is in the answer."""
        if not self.over and not self._asking:
            self._asking = True
            self.session.post(GetChildren(self._spot.parent, None), self._listed)

    def _listed(self, reply: Reply) -> None:
        self._asking = False
        if self.over or isinstance(reply.value, LOST):
            return  # asked again when a connection is there, or by the next beat
        if isinstance(reply.value, NoNodeError):
            self.end(Gone())
        elif not isinstance(reply.value, Exception):
            self.look(in_order(reply.value))

    def end(self, news: Grant | Gone) -> None:
        """There are news, and nothing more to watch for."""
        self.over = True
        self._done(self)
        self.ticket.inbox.deliver(news)


def grant(session: Session, ticket: Ticket) -> Grant:
    """The grant of a ticket whose turn has come; it is believed since the session's last word that a majority heard."""
    claim = ticket.claim
    spot: Spot = ticket.state
    if claim.permits < claim.limit:
        session.post(SetData(spot.path, spot.value + MARK, -1))
    return Grant(claim, ticket.number, session.ttl, session.believed(spot.session, session.word), state=spot)


def _marked(value: Any) -> bool:
    return isinstance(value, tuple) and value[0].endswith(MARK)
