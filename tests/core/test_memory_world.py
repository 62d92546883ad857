"""The executable specification, where its own bookkeeping could go wrong."""

from __future__ import annotations

from locksmith.errors import SettingsConflict
from locksmith.memory_world import World
from locksmith.runtime import Blocking
from locksmith.store import Claim, Grant, Inbox, Ticket


def claim(owner: str, *, permits: int = 1, limit: int = 1, ttl: float = 10.0, lock_delay: float = 0.0) -> Claim:
    return Claim("n", "n", owner, ttl, permits, limit, ttl, lock_delay, "{}")


def ticket(one: Claim) -> Ticket:
    return Ticket(one, 0, 0.0, Inbox(Blocking().event()))


def test_a_conflict_does_not_swallow_whom_it_granted_on_the_way() -> None:
    """Rule 5: the acquire that finds the holder expired grants the head of the line, and then refuses its own claim."""
    world = World()
    world.acquire(claim("a", ttl=1.0), None, 0.0, 0.0, 1)
    waiting = ticket(claim("b"))
    world.acquire(waiting.claim, waiting, 0.0, 0.5, 2)
    reply, handed = world.acquire(claim("c", limit=2), None, 0.0, 1.5, 3)
    assert isinstance(reply, SettingsConflict)
    assert [(who.claim.owner, grant.claim.owner) for who, grant in handed] == [("b", "b")]


def test_the_head_asks_at_the_end_of_a_lock_delay_where_its_permits_are_free() -> None:
    world = World()
    first, _ = world.acquire(claim("a", limit=2, ttl=1.0, lock_delay=2.0), None, 0.0, 0.0, 1)
    second, _ = world.acquire(claim("b", limit=2, ttl=100.0), None, 0.0, 0.0, 2)
    assert isinstance(first, Grant)
    assert isinstance(second, Grant)
    waiting = ticket(claim("c", limit=2))
    world.acquire(waiting.claim, waiting, 0.0, 1.5, 3)
    assert waiting.head_expires_in == 1.5
