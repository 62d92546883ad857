"""Claims as Consul keeps them: what is written in a key, and nodes read from a listing."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence

from locksmith import names
from locksmith.errors import StoreProtocolError
from locksmith.nodes import Node
from locksmith.store import Claim
from locksmith_consul.base import Entry


def written(claim: Claim, ttl: float, born: float) -> str:
    """What the key of a claim holds, in base64. Short, because all of a line is read by everybody who joins it.

    `ttl`: seconds its session outlives its last word; `born`: a wall clock, for people. Name and owner stand in the
    key itself, unless that has only the hash of a name.
    """
    hidden = [claim.name] if "~~" in claim.key else []
    said = [claim.permits, claim.limit, ttl, round(born, 3), claim.info, *hidden]
    return b64encode(json.dumps(said, separators=(",", ":")).encode("ascii")).decode("ascii")


def value_of(entry: Entry) -> bytes:
    """What a key holds."""
    return b64decode(entry["Value"] or "")


def nodes_of(found: Sequence[Entry]) -> list[Node]:
    """The claims of one name, in order.

    A claim's key is written once, so the index at which it was made is also its ModifyIndex, its place in line and its
    fencing token: it grows with everything that the servers agree on, whatever is deleted in between.
    """
    return sorted(_node(entry) for entry in found)


def _node(entry: Entry) -> Node:
    try:
        place, index = entry["Key"].rsplit("/", 2), entry["CreateIndex"]
        permits, limit, ttl, born, info, *hidden = json.loads(value_of(entry))
        name = str(hidden[0]) if hidden else names.decode(place[-2]) or ""
        return Node(index, index, name, place[-1], permits, limit, ttl, born, info)
    except (ValueError, TypeError, LookupError) as wrong:
        raise StoreProtocolError(
            "what lies where locksmith keeps its claims was not written by locksmith: use another namespace"
        ) from wrong


def session_of(found: Sequence[Entry], owner: str) -> str:
    """The session that a claim lives by, "" where there is no such claim."""
    return next((entry.get("Session") or "" for entry in found if entry["Key"].endswith(f"/{owner}")), "")
