"""Several names in one transaction of the server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from kazoo.exceptions import NoAuthError, NodeExistsError, NoNodeError

from locksmith.errors import ConfigurationError, StoreAuthError, StoreProtocolError, StoreUnavailable
from locksmith.nodes import check_limit, value
from locksmith.store import Claim, Grant
from locksmith_zookeeper import line
from locksmith_zookeeper.base import Base
from locksmith_zookeeper.errors import translate
from locksmith_zookeeper.session import Answer, Session, Withdrawn
from locksmith_zookeeper.spot import Spot
from locksmith_zookeeper.wire import EPHEMERAL_SEQUENTIAL, Create, Delete, Exists, GetChildren, Transaction

_FINE: Final = (NoNodeError, NodeExistsError, NoAuthError)
_Entry: TypeAlias = tuple[Claim, Spot, list[line.Place]]


class Together(Base):
    """All of several names, or none."""

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        """See Store.takes_together."""
        return True

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        """See Store.acquire_all: one round trip, in which all nodes are made in one transaction and the lines are read,
        and one for the nodes' tokens, which a transaction does not tell.

        As for one name, a session's requests are served in order: what it lists after its nodes were made has all that
        were made before them, so whoever comes first is known for each name. Nothing can be asked of a line before a
        node is made in it: where somebody was there before, the nodes are deleted again.
        """
        session, until = self._session(claims[0].ttl), self._until()
        entered = await self._enter_all(session, claims, until)
        if entered is None:
            await self._leave_all(session, claims, await self._formers(session, claims, until), until)
            return None
        entries, since = entered
        if any(_first_of(claim, places) != spot.node for claim, spot, places in entries):
            # Owners that were here before, because an answer was lost; or nodes that somebody has deleted.
            await self._leave_all(session, claims, [spot.path for _, spot, _ in entries], until)
            former = await self._former_entries(session, entries, until)
            if former is None:
                await self._leave_all(session, claims, await self._formers(session, claims, until), until)
                return None
            entries = former
        if any(places[0].owner != claim.owner for claim, _, places in entries):
            await self._leave_all(session, claims, [spot.path for _, spot, _ in entries], until)
            for claim, _, places in entries:
                check_limit(claim, places[:1])
            return None
        return [
            Grant(claim, spot.token, session.ttl, session.believed(spot.session, since), state=spot)
            for claim, spot, _ in entries
        ]

    async def _enter_all(
        self, session: Session, claims: Sequence[Claim], until: float
    ) -> tuple[list[_Entry], float] | None:
        """A node in each line, and the lines as they are then; None: a tombstone, or one is gone."""

        def buried() -> bool:
            # See ZooKeeperStore._enter.
            for claim in claims:
                session.settled(claim.owner)
            return any(self._buried(claim) for claim in claims)

        await session.ready(until)
        parents = [self._parent(claim.key) for claim in claims]
        nodes = self._creates(session, claims, parents)
        lists = [GetChildren(parent, None) for parent in parents]
        above = [self._parents(f"{parent}/")[-1] for parent in parents if parent not in self._used]
        while True:
            self._used.update(dict.fromkeys(parents, self.runtime.clock.now()))
            try:
                answer = await self._ask(
                    session, *above, Transaction(nodes), *lists, until=until, path=parents[0], fine=_FINE, unless=buried
                )
            except Withdrawn:
                return None
            except (StoreAuthError, StoreProtocolError, ConfigurationError):
                raise
            except BaseException:
                self._doubt(session, claims)
                raise
            made = answer.values[len(above)]
            if not any(isinstance(each, Exception) for each in made):
                entries = await self._entered_all(session, claims, nodes, answer, made, until)
                return None if entries is None else (entries, answer.since)
            self._refuse(above, answer, made, parents, until)
            # The node of a name, or one above it, is not there, or was deleted just now because it was empty.
            above = [request for parent in parents for request in self._parents(f"{parent}/")]

    def _creates(self, session: Session, claims: Sequence[Claim], parents: Sequence[str]) -> list[Any]:
        born, acl = time.time(), self._server.acl
        return [
            Create(f"{parent}/{line.node(claim)}", value(claim, session.ttl, born), acl, EPHEMERAL_SEQUENTIAL)
            for claim, parent in zip(claims, parents, strict=True)
        ]

    def _refuse(self, above: list[Any], answer: Answer, made: list[Any], parents: list[str], until: float) -> None:
        for parent, error in zip(parents, made, strict=True):
            if isinstance(error, NoAuthError):
                raise translate(error, parent) from error
        # Where a node may not be made it may be there all the same; then the others could be.
        for request, said in zip(above, answer.values, strict=False):
            if isinstance(said, NoAuthError):
                raise translate(said, request.path) from said
        if self.runtime.clock.now() >= until:
            raise StoreUnavailable(f"ZooKeeper: {parents[0]} vanishes as soon as it is made: try again.")

    async def _entered_all(
        self,
        session: Session,
        claims: Sequence[Claim],
        nodes: list[Any],
        answer: Answer,
        paths: list[str],
        until: float,
    ) -> list[_Entry] | None:
        """The nodes that were made, and the lines; None where one of them is gone already."""
        session.confirmed(answer.since)
        for path in paths:
            session.keep(path)
        try:
            said = await self._answers(session, *(Exists(path, None) for path in paths), until=until, path=paths[0])
            lists = answer.values[-len(claims) :]
            for path, children in zip(paths, lists, strict=True):
                if isinstance(children, NoAuthError):  # without the line nobody knows whose turn it is
                    raise translate(children, path) from children
        except BaseException:
            self._doubt(session, claims)
            session.sweep()
            raise
        entries: list[_Entry] = []
        for claim, node, path, stat, children in zip(claims, nodes, paths, said.values, lists, strict=True):
            if stat is None or isinstance(stat, Exception):
                return None
            parent, _, name = path.rpartition("/")
            spot = Spot(parent, name, claim.owner, stat.czxid, stat.ephemeralOwner, session.asked_ttl, node.data)
            entries.append((claim, spot, line.in_order([] if isinstance(children, Exception) else children)))
        return entries

    async def _former_entries(self, session: Session, entries: Sequence[_Entry], until: float) -> list[_Entry] | None:
        """The nodes that these owners had before; None where one of them has none."""
        found: list[_Entry] = []
        for claim, spot, places in entries:
            others = [place for place in places if place.node != spot.node]
            mine = next((place for place in others if place.owner == claim.owner), None)
            former = await self._look(session, spot.parent, mine, until) if mine is not None else None
            if former is None:
                return None
            found.append((claim, former._replace(value=spot.value), others))
        return found

    async def _formers(self, session: Session, claims: Sequence[Claim], until: float) -> list[str]:
        """Where these owners have nodes."""
        paths = []
        for claim in claims:
            parent = self._parent(claim.key)
            places = await self._line(session, parent, until)
            paths += [f"{parent}/{place.node}" for place in places if place.owner == claim.owner]
        return paths

    async def _leave_all(self, session: Session, claims: Sequence[Claim], paths: Sequence[str], until: float) -> None:
        """Delete nodes of ours."""
        if not paths:
            return
        try:
            await self._answers(session, *(Delete(path, -1) for path in paths), until=until, path=paths[0])
        except BaseException:
            self._doubt(session, claims)
            raise
        for path in paths:
            session.forget(path)

    def _doubt(self, session: Session, claims: Sequence[Claim]) -> None:
        for claim in claims:
            session.doubt(claim.owner, self._parent(claim.key))


def _first_of(claim: Claim, places: Sequence[line.Place]) -> str | None:
    return next((place.node for place in places if place.owner == claim.owner), None)
