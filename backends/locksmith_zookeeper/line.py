"""The names of claims' nodes, and their order.

A claim is an ephemeral sequential node `owner-attempt-permits-limit-sequence`, so that listing the children of a name
is enough to decide who has it. Owner and attempt, random both, are what Curator calls protection: a node whose creation
was answered to nobody is found again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from locksmith.store import Claim

# The sequence is a signed 32-bit integer, written with %010d.
_NODE: Final = re.compile(r"([0-9a-f]{32})-([0-9a-f]{8})-(\d+)-(\d+)-(-?\d{9,10})")
_TURN: Final = 2**32


class Place(NamedTuple):
    """A claim's node as its name tells it."""

    node: str
    owner: str
    permits: int
    limit: int


def node(claim: Claim) -> str:
    """The name of a new node; the server appends the sequence."""
    return f"{claim.owner}-{os.urandom(4).hex()}-{claim.permits}-{claim.limit}-"


def again(claim: Claim, former: str) -> str:
    """The name of another node in the place of a former one."""
    sequence = former.split("-", 4)[4]
    return node(claim) + sequence


def in_order(children: Iterable[str]) -> list[Place]:
    """The claims among the children of a name, in the order of their creation. What is not ours is left out.

    The server counts with 32 bits: after 2147483647 comes -2147483648. All that live at one time lie within half a turn
    of that wheel, so the widest gap between neighbours is where the line begins.
    """
    places = []
    for child in children:
        if found := _NODE.fullmatch(child):
            owner, _, permits, limit, sequence = found.groups()
            places.append((int(sequence) % _TURN, Place(child, owner, int(permits), int(limit))))
    if len(places) < 2:
        return [place for _, place in places]
    places.sort()
    gaps = [(places[at][0] - places[at - 1][0]) % _TURN for at in range(len(places))]
    first = gaps.index(max(gaps))
    return [place for _, place in places[first:] + places[:first]]
