"""Beats: one request to a majority for each session and up to 500 claims, with the lines of those who wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from kazoo.exceptions import NoNodeError

from locksmith.errors import StoreError, StoreUnavailable
from locksmith.nodes import granted, value
from locksmith.store import Gone, Grant, Held, Lost, Ticket, Unknown, Waiting, Word
from locksmith_zookeeper import line
from locksmith_zookeeper.base import Base
from locksmith_zookeeper.errors import LOST, translate
from locksmith_zookeeper.line import in_order
from locksmith_zookeeper.session import Session
from locksmith_zookeeper.spot import Spot
from locksmith_zookeeper.waiters import grant as granted_now
from locksmith_zookeeper.wire import EPHEMERAL, Batch, CheckVersion, Create, Delete, Exists, GetChildren, Transaction

_log: Final = logging.getLogger("locksmith.zookeeper")
CHUNK: Final = 500
"""Claims in one request: it must stay well below the server's limit of a megabyte (jute.maxbuffer)."""


class Beats(Base):
    """Renewal."""

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        """See Store.beat.

        A transaction that only checks that the nodes are there: it needs a majority, as a read does not, which a server
        cut off from the others goes on answering while the session ends elsewhere.
        """
        until = self.runtime.clock.now() + within
        items: list[Grant | Ticket] = [*grants, *tickets]
        if lingering := [item for item in grants if isinstance(item.state, Spot) and item.state.ttl != item.claim.ttl]:
            ends = {id(item): await self._linger(item, until) for item in lingering}
            rest = [item for item in grants if id(item) not in ends]
            words = iter(await self.beat(rest, tickets, within=until - self.runtime.clock.now()))
            return [ends[id(item)] if id(item) in ends else next(words) for item in items]
        by_ttl = {ttl: Round(self._session(ttl), until) for ttl in dict.fromkeys(item.claim.ttl for item in items)}
        for item in items:
            by_ttl[item.claim.ttl].add(item, await self._known(item, until))
        # Sent to all before any is waited for: what one server does not answer must not cost the others their time.
        for round_ in by_ttl.values():
            round_.send()
        for round_ in by_ttl.values():
            await self._hear(round_)
        return [by_ttl[item.claim.ttl].word(item) for item in items]

    async def _linger(self, grant: Grant, until: float) -> Word:
        """Give a claim a ttl of its own: a node in its place, in a session that nobody will be heard of in again."""
        spot: Spot = grant.state
        session = Session(self._server, grant.claim.ttl, self.runtime, strict=False)
        path = f"{spot.parent}/{line.again(grant.claim, spot.node)}"
        try:
            await session.ready(until)
            data = value(grant.claim, session.ttl, time.time())
            move = Transaction([Delete(spot.path, -1), Create(path, data, self._server.acl, EPHEMERAL)])
            answer = await session.ask(move, Exists(path, None), until=until)
        except StoreError as error:
            return Unknown(error if isinstance(error, StoreUnavailable) else _unavailable(error))
        finally:
            await session.desert()
        if session.ttl < grant.claim.ttl:
            _log.warning(
                "%r stays closed for %g s, as long as the server keeps a session", grant.claim.name, session.ttl
            )
        self._session(spot.ttl).forget(spot.path)
        return Lost() if answer.values[1] is None else Held(session.ttl, answer.since)

    async def _known(self, item: Grant | Ticket, until: float) -> Spot | StoreUnavailable | None:
        if isinstance(item, Ticket):
            return item.state if isinstance(item.state, Spot) else None
        try:
            return await self._spot(item, self._session(item.claim.ttl), until)
        except StoreUnavailable as error:
            return error

    async def _hear(self, round_: Round) -> None:
        try:
            await round_.hear()
        except StoreError as error:
            round_.error = error if isinstance(error, StoreUnavailable) else _unavailable(error)
            return
        for item in round_.tickets:
            places = round_.lines.get(item.state.parent, [])
            self._waiters.look(item, places)
        self._tidy(round_.session)


class Round:
    """A beat in one session."""

    def __init__(self, session: Session, until: float) -> None:
        self.session = session
        self.error: StoreUnavailable | None = None
        self.tickets: list[Ticket] = []
        self.lines: dict[str, list[Any]] = {}
        self._until = until
        self._spots: dict[int, Spot | StoreUnavailable | None] = {}
        self._alive: set[str] = set()
        self._since = float("-inf")
        self._batch: Batch | None = None

    def add(self, item: Grant | Ticket, spot: Spot | StoreUnavailable | None) -> None:
        """Ask about this as well."""
        self._spots[id(item)] = spot
        if isinstance(item, Ticket) and isinstance(spot, Spot):
            self.tickets.append(item)

    def _paths(self) -> list[str]:
        return [spot.path for spot in self._spots.values() if isinstance(spot, Spot)]

    def _requests(self) -> list[Any]:
        paths = self._paths()
        checks: list[Any] = [
            Transaction([CheckVersion(path, -1) for path in paths[at : at + CHUNK]])
            for at in range(0, len(paths), CHUNK)
        ]
        return checks + [GetChildren(parent, None) for parent in self._parents()]

    def _parents(self) -> list[str]:
        return list(dict.fromkeys(ticket.state.parent for ticket in self.tickets))

    def send(self) -> None:
        """Send it, if there is a connection."""
        if self.session.connected and (requests := self._requests()):
            self._batch = self.session.send(requests)

    async def hear(self) -> None:
        """Wait for the answers; ask again where the connection broke. Raises StoreError."""
        requests = self._requests()
        if not requests:
            return
        values, since = None, 0.0
        if self._batch is not None:
            values, since = await self.session.hear(self._batch, self._until), self._batch.since
        if values is None or any(isinstance(said, LOST) for said in values):
            answer = await self.session.ask(*requests, until=self._until)
            values, since = answer.values, answer.since
        self._read(values, since)
        if missing := [path for path in self._paths() if path not in self._alive]:
            await self._ask_singly(missing)

    def _read(self, values: list[Any], since: float) -> None:
        parents = self._parents()
        checks = values[: len(values) - len(parents)]
        paths = self._paths()
        for at, results in enumerate(checks):
            if isinstance(results, Exception):
                raise translate(results, paths[at * CHUNK]) from results
            if not any(isinstance(result, Exception) for result in results):
                self._alive.update(paths[at * CHUNK : (at + 1) * CHUNK])
        for parent, children in zip(parents, values[len(checks) :], strict=True):
            if isinstance(children, Exception) and not isinstance(children, NoNodeError):
                raise translate(children, parent) from children
            self.lines[parent] = [] if isinstance(children, Exception) else in_order(children)
        # Also a transaction that failed was agreed on by a majority.
        self._since = since
        self.session.confirmed(since)

    async def _ask_singly(self, paths: list[str]) -> None:
        answer = await self.session.ask(*(Exists(path, None) for path in paths), until=self._until)
        for path, stat in zip(paths, answer.values, strict=True):
            if isinstance(stat, Exception):
                raise translate(stat, path) from stat
            if stat is None:
                self.session.forget(path)
            else:
                self._alive.add(path)

    def word(self, item: Grant | Ticket) -> Word:
        """What became of it."""
        spot = self._spots[id(item)]
        if isinstance(spot, StoreUnavailable):
            return Unknown(spot)
        if spot is not None and self.error is not None:
            return Unknown(self.error)
        if spot is None or spot.path not in self._alive:
            return Lost() if isinstance(item, Grant) else Gone()
        if isinstance(item, Ticket):
            return self._word_to_ticket(item, spot)
        if spot.session != self.session.number:
            return Unknown(StoreUnavailable("ZooKeeper: this claim lives by another session, which we cannot prolong."))
        return Held(self.session.ttl, self._since)

    def _word_to_ticket(self, ticket: Ticket, spot: Spot) -> Word:
        places = self.lines.get(spot.parent, [])
        at = next((at for at, place in enumerate(places) if place.node == spot.node), None)
        if at is None:
            return Gone()
        return granted_now(self.session, ticket) if at < granted(places) else Waiting(self._since)


def _unavailable(error: StoreError) -> StoreUnavailable:
    told = StoreUnavailable(str(error))
    told.__cause__ = error
    return told
