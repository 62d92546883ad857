"""ZooKeeperStore: claims as ephemeral nodes. See docs/stores/zookeeper.md for its promises and their assumptions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Self

from kazoo.exceptions import NoAuthError, NodeExistsError, NoNodeError

from locksmith.errors import ConfigurationError, StoreAuthError, StoreProtocolError, StoreUnavailable
from locksmith.nodes import check_limit, granted, value
from locksmith.runtime import Runtime
from locksmith.store import Claim, Grant, Guarantee, Inbox, Ticket
from locksmith_zookeeper import line, url
from locksmith_zookeeper.beats import Beats
from locksmith_zookeeper.cells import Cells
from locksmith_zookeeper.errors import translate
from locksmith_zookeeper.people import People
from locksmith_zookeeper.session import Answer, Session, Withdrawn
from locksmith_zookeeper.spot import Spot
from locksmith_zookeeper.together import Together
from locksmith_zookeeper.wire import EPHEMERAL_SEQUENTIAL, Create2, Delete, GetChildren

_FINE: Final = (NoNodeError, NodeExistsError, NoAuthError)


class ZooKeeperStore(Together, Beats, Cells, People):
    """Claims are nodes that end with their session, in the order that the server gives them."""

    guarantees = (
        Guarantee.FENCED
        | Guarantee.FIFO
        | Guarantee.PUSH
        | Guarantee.DURABLE
        | Guarantee.SURVIVES_FAILOVER
        | Guarantee.SHARED
        | Guarantee.CELLS
    )
    by_session = True
    heart_from_outside = False

    def __init__(self, server: url.Server, runtime: Runtime, namespace: str) -> None:
        self.runtime = runtime
        self.namespace = namespace
        self._server = server
        self._root = server.root(namespace)
        self._fresh()

    @classmethod
    def from_url(cls, address: str, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_url."""
        return cls(url.from_url(address), runtime, namespace)

    @classmethod
    def from_client(cls, client: object, *, runtime: Runtime, namespace: str) -> Self:
        """See Store.from_client. Sessions of our own are made with the settings of the client.

        In its session a claim would live by the client's pings, for as long as its process, and not by our words.
        """
        return cls(url.from_client(client), runtime, namespace)

    @property
    def address(self) -> str:
        """See Store.address."""
        return self._server.address

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        """See Store.acquire: one round trip, in which the node is made and the line is read."""
        session, parent, until = self._session(claim.ttl), self._parent(claim.key), self._until()
        while True:
            entered = await self._enter(session, claim, parent, until)
            if entered is None:
                return None
            spot, places, since = entered
            at = next((at for at, place in enumerate(places) if place.owner == claim.owner), None)
            if at is None:
                continue  # somebody deleted the node; whoever abandoned this claim has buried its owner
            if places[at].node != spot.node:
                # This owner was here before: an answer was lost, or it asks again.
                await self._leave(session, claim, spot, until)
                former = await self._look(session, parent, places[at], until)
                if former is None:
                    continue
                spot = former._replace(value=spot.value)
            return await self._judge(session, claim, spot, places, at, since, until, queue=queue)

    async def _enter(
        self, session: Session, claim: Claim, parent: str, until: float
    ) -> tuple[Spot, list[line.Place], float] | None:
        """A node in the line, and the line as it is then; None where the owner has a tombstone."""

        def buried() -> bool:
            # Asked just before the request is sent: whoever abandons this claim after that will find its node.
            session.settled(claim.owner)
            return self._buried(claim)

        await session.ready(until)
        data = value(claim, session.ttl, time.time())
        node = line.node(claim)
        requests = [
            Create2(f"{parent}/{node}", data, self._server.acl, EPHEMERAL_SEQUENTIAL),
            GetChildren(parent, None),
        ]
        above = [] if parent in self._used else self._parents(f"{parent}/")[-1:]
        while True:
            self._used[parent] = self.runtime.clock.now()
            try:
                answer = await self._ask(
                    session, *above, *requests, until=until, path=parent, fine=_FINE, unless=buried
                )
            except Withdrawn:
                return None
            except (StoreAuthError, StoreProtocolError, ConfigurationError):
                raise
            except BaseException:
                session.doubt(claim.owner, parent)
                raise
            made, children = answer.values[-2:]
            if not isinstance(made, Exception):
                entered = self._entered(session, parent, claim, data, made, children, answer)
                if isinstance(children, NoAuthError):  # without the line nobody knows whose turn it is
                    await self._leave(session, claim, entered[0], until)
                    raise translate(children, parent) from children
                return entered
            self._refuse_unmakeable(above, answer.values, parent, until)
            # The name's node, or one above it, is not there, or was deleted just now because it was empty.
            above = self._parents(f"{parent}/")

    def _refuse_unmakeable(self, above: Sequence[Any], values: Sequence[Any], parent: str, until: float) -> None:
        made = values[-2]
        if isinstance(made, NoAuthError):
            raise translate(made, parent) from made
        # Where a node may not be made it may be there all the same; then the others could be.
        for request, answer in zip(above, values, strict=False):
            if isinstance(answer, NoAuthError):
                raise translate(answer, request.path) from answer
        if self.runtime.clock.now() >= until:
            raise StoreUnavailable(f"ZooKeeper: {parent} vanishes as soon as it is made: try again.")

    def _entered(
        self, session: Session, parent: str, claim: Claim, data: bytes, made: Any, children: Any, answer: Answer
    ) -> tuple[Spot, list[line.Place], float]:
        path, stat = made
        session.keep(path)
        session.confirmed(answer.since)
        node = path.rpartition("/")[2]
        spot = Spot(parent, node, claim.owner, stat.czxid, stat.ephemeralOwner, session.asked_ttl, data)
        return spot, line.in_order([] if isinstance(children, Exception) else children), answer.since

    async def _judge(
        self,
        session: Session,
        claim: Claim,
        spot: Spot,
        places: list[line.Place],
        at: int,
        since: float,
        until: float,
        *,
        queue: bool,
    ) -> Grant | Ticket | None:
        try:
            # The first alone: one that has another limit than it is about to leave, as this one would be.
            check_limit(claim, places[:1])
        except BaseException:
            await self._leave(session, claim, spot, until)
            raise
        if at < granted(places):
            return Grant(claim, spot.token, session.ttl, session.believed(spot.session, since), state=spot)
        if not queue:
            await self._leave(session, claim, spot, until)
            return None
        ticket = Ticket(claim, spot.token, since, Inbox(self.runtime.event()), state=spot)
        self._waiters.enter(session, ticket, places)
        return ticket

    async def _leave(self, session: Session, claim: Claim, spot: Spot, until: float) -> bool:
        """Delete a node of ours; False where it was not there."""
        try:
            answer = await self._answers(session, Delete(spot.path, -1), until=until, path=spot.path)
        except BaseException:
            session.doubt(claim.owner, spot.parent)
            raise
        session.forget(spot.path)
        return answer.again or answer.values[0] is True

    def leave(self, ticket: Ticket) -> None:
        """See Store.leave."""
        self._waiters.leave(ticket.claim.owner)

    async def release(self, grant: Grant) -> bool:
        """See Store.release. "Not there" by a second request means that the first, unanswered one deleted it."""
        session, until = self._session(grant.claim.ttl), self._until()
        spot = await self._spot(grant, session, until)
        if spot is None:
            return False
        self._used[spot.parent] = self.runtime.clock.now()
        released = await self._leave(session, grant.claim, spot, until)
        self._tidy(session)
        return released

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        """See Store.abandon.

        The server serves one session's requests in order, and what a lost connection had under way is refused once
        the session has moved to another. So what is listed in this claim's session is all that there will ever be.
        """
        session, parent, until = self._session(claim.ttl), self._parent(claim.key), self._until()
        self._waiters.leave(claim.owner)
        if tombstone:
            self._bury(claim)
        places = await self._line(session, parent, until)
        mine = [f"{parent}/{place.node}" for place in places if place.owner == claim.owner]
        if mine:
            await self._answers(session, *(Delete(path, -1) for path in mine), until=until, path=parent)
        for path in mine:
            session.forget(path)
        session.settled(claim.owner)
