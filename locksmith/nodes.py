"""Claims as nodes in order: what the stores that live by sessions (etcd, ZooKeeper, Consul) have in common.

Each claim is one node: a key of the server's that vanishes with its client's session, and that the server has put in
order. Who has the name follows from the nodes alone, so that everybody who reads them comes to the same answer, and
every removal grants without anybody writing anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple, Protocol, Self

from locksmith.errors import SettingsConflict, StoreProtocolError
from locksmith.store import Claim, HolderView, Inspection, WaiterView


class Place(Protocol):
    """What has to be known of a node to say who has the name; where a listing tells it, nothing else is read."""

    @property
    def owner(self) -> str:
        """Whose it is."""

    @property
    def permits(self) -> int:
        """How many it wants."""

    @property
    def limit(self) -> int:
        """How many there are, by its owner's settings."""


class Node(NamedTuple):
    """A claim as the server keeps it."""

    order: int
    """Its place among the nodes of its name, and, from stores whose order is global, its fencing token."""
    token: int
    name: str
    owner: str
    permits: int
    limit: int
    ttl: float
    """Seconds that its session outlives the client's last word, at least."""
    born: float
    """When it was made, by a wall clock: for people alone, nothing is decided by it."""
    info: str

    @classmethod
    def read(cls, value: bytes, *, order: int, token: int) -> Self:
        """From what `value` wrote. Raises StoreProtocolError where somebody else wrote it."""
        try:
            said: dict[str, Any] = json.loads(value)
            return cls(order, token, *(said[field] for field in _WRITTEN))
        except (ValueError, KeyError, TypeError) as wrong:
            raise StoreProtocolError(
                "what lies where locksmith keeps its claims was not written by locksmith: use another namespace"
            ) from wrong


_WRITTEN: Final = Node._fields[2:]


def value(claim: Claim, ttl: float, born: float) -> bytes:
    """A claim for the server to keep: JSON in ASCII."""
    # Names may hold lone surrogates, which UTF-8 does not have; json escapes those like everything beyond ASCII.
    written = (claim.name, claim.owner, claim.permits, claim.limit, ttl, born, claim.info)
    return json.dumps(dict(zip(_WRITTEN, written, strict=True)), separators=(",", ":")).encode("ascii")


def granted(nodes: Sequence[Place]) -> int:
    """How many of these nodes, which are in order, have their permits: always the first ones.

    A node has them when they fit the limit together with those of all earlier nodes. Earlier nodes only ever vanish, so
    what was granted stays granted for as long as its node lives.
    """
    sums = accumulate(node.permits for node in nodes)
    return next((at for at, used in enumerate(sums) if used > nodes[at].limit), len(nodes))


def check_limit(claim: Claim, nodes: Iterable[Place]) -> None:
    """Raises SettingsConflict where the name lives with another limit."""
    for node in nodes:
        if node.limit != claim.limit and node.owner != claim.owner:
            raise SettingsConflict(
                f"{claim.name!r} is in use with a limit of {node.limit}, not {claim.limit}: use one limit everywhere"
            )


def inspection(name: str, nodes: Sequence[Node], now: float) -> Inspection:
    """What `Store.inspect` says of these nodes, which are in order. `now`: the wall clock that `born` was read from."""
    if not nodes:
        return Inspection(name, None, 0)
    first = granted(nodes)
    holders = [
        HolderView(node.owner, node.token, node.permits, max(0.0, now - node.born), node.ttl, node.info)
        for node in nodes[:first]
    ]
    waiters = [WaiterView(node.owner, node.permits, max(0.0, now - node.born), node.info) for node in nodes[first:]]
    last = max((view.token for view in holders), default=0)
    return Inspection(name, nodes[0].limit, last, holders, waiters)
