"""Where on the server a claim of ours is."""

from __future__ import annotations

from typing import NamedTuple


class Spot(NamedTuple):
    """A claim's node; its path is never used twice."""

    parent: str
    node: str
    owner: str
    token: int
    session: int
    """The session that it lives by."""
    ttl: float
    """The ttl that this session was asked for."""
    value: bytes

    @property
    def path(self) -> str:
        """The node's path."""
        return f"{self.parent}/{self.node}"
