"""Several names in one transaction, and what all claims live by."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from locksmith import nodes
from locksmith.errors import StoreUnavailable
from locksmith.store import Claim, Grant
from locksmith_consul.base import Entry
from locksmith_consul.claims import nodes_of, session_of, written
from locksmith_consul.keys import MOST_OPS, Op, op
from locksmith_consul.sessions import Session, Sessions

TRIES: Final = 3
"""Sessions that may end under the hands of one call before it gives up."""
ENDED: Final = "invalid session"
"""What Consul says of a session that has ended."""


class Life(NamedTuple):
    """What a grant or a ticket lives by."""

    session: str
    ttl: float
    """As its claim asked for, when it was made."""


class Together(Sessions):
    """All of several names, or none."""

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        """See Store.takes_together: as many as fit into one transaction."""
        return len(claims) <= MOST_OPS // 4

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        """See Store.acquire_all: one transaction, which makes all keys or none.

        Nothing can be asked of a line before a key is made in it. So where somebody was there before, the keys are
        deleted again, by a second transaction, as those of a try for one name are.
        """
        count, places = len(claims), [self._keys.claim(claim) for claim in claims]
        trees = [op("get-tree", self._keys.line(claim.key)) for claim in claims]
        for _ in range(TRIES):
            session = await self._current(claims[0].ttl)
            values = [written(claim, session.ttl, time.time()) for claim in claims]
            done, failed, _, _ = await self._transact(
                (
                    *(op("check-not-exists", self._keys.tombstone(claim)) for claim in claims),
                    *(op("check-not-exists", place) for place in places),
                    *(
                        op("lock", place, value, session=session.id)
                        for place, value in zip(places, values, strict=True)
                    ),
                    *trees,
                )
            )
            if done is not None:
                return await self._all_placed(claims, done[count:], dict.fromkeys(places, session))
            if any(at < 2 * count for at in failed):
                known = await self._known_again(claims, trees) if all(at >= count for at in failed) else None
                if known is not None:
                    return await self._all_placed(claims, *known)
                await self._erase_all(claims)
                return None
            self._refuse_other(failed, ENDED)
            self._bury(session)
        raise StoreUnavailable("Consul: sessions end as soon as they are made; the agent's log may say why.")

    async def _all_placed(
        self, claims: Sequence[Claim], found: list[Entry], sessions: Mapping[str, Session]
    ) -> list[Grant] | None:
        """What claims have come to whose keys are among these."""
        lines = self._lines(claims, found)
        if all(line and line[0].owner == claim.owner for claim, line in lines):
            of = [sessions[self._keys.claim(claim)] for claim in claims]
            return [
                Grant(claim, line[0].token, session.ttl, session.since, state=Life(session.id, claim.ttl))
                for (claim, line), session in zip(lines, of, strict=True)
            ]
        await self._erase_all(claims)
        for claim, line in lines:
            nodes.check_limit(claim, line[:1])
        return None

    def _lines(self, claims: Sequence[Claim], found: list[Entry]) -> list[tuple[Claim, list[nodes.Node]]]:
        by_name: dict[str, list[Entry]] = {self._keys.line(claim.key): [] for claim in claims}
        for entry in found:
            by_name[entry["Key"].rpartition("/")[0] + "/"].append(entry)
        return [(claim, nodes_of(by_name[self._keys.line(claim.key)])) for claim in claims]

    async def _known_again(
        self, claims: Sequence[Claim], trees: list[Op]
    ) -> tuple[list[Entry], dict[str, Session]] | None:
        """The lines of claims that were asked for before, and the sessions they live by; None where one has ended."""
        outcome = await self._transact(trees)
        found, sessions = outcome.done or [], dict[str, Session]()
        for claim in claims:
            session = await self._alive(claim, found)
            if session is None:
                return None
            sessions[self._keys.claim(claim)] = session
        return found, sessions

    async def _erase_all(self, claims: Sequence[Claim]) -> None:
        """Delete the keys of these claims, where they are: nobody else ever has their owners."""
        await self._transact([op("delete", self._keys.claim(claim)) for claim in claims])

    async def _alive(self, claim: Claim, found: list[Entry]) -> Session | None:
        """The session that a claim among these lives by, renewed; None where it has ended."""
        session = self._session(claim, found)
        return session if session is not None and await self._renew(session) else None

    def _session(self, claim: Claim, found: list[Entry]) -> Session | None:
        session_id = session_of(found, claim.owner)
        if session_id and session_id not in self._known:
            # Made by another client, or by the process that this one is the heart of.
            ttl = next(node.ttl for node in nodes_of(found) if node.owner == claim.owner)
            self._known[session_id] = Session(session_id, ttl, float("-inf"))
        return self._known.get(session_id)
