"""What the stores say about claims, grants and tickets, as words of requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from locksmith.errors import InvalidTTL
from locksmith.store import Grant, Ticket
from locksmith_redis.scripts import BEAT, Keys, word

CHUNK: Final = 200
"""Names per script of a beat: a script stops the server while it runs, and this many take a millisecond."""
DAY: Final = 86_400_000
"""Milliseconds that a name's last token is remembered after its last use."""
MAX_TTL: Final = 3_000_000_000.0
"""Seconds; the scripts' numbers are exact for as long as that."""


@lru_cache(maxsize=1024)
def terms(ttl: float, permits: int, limit: int, lock_delay: float, info: str, name: str) -> bytes:
    """The words of an acquire that do not change: ttl, and the terms of a claim as the scripts keep them.

    Those begin with L or D, one permit of one without or with lock_delay, or S, anything else. A key that ends in a
    hash does not say its `name`, which is kept for listings.
    """
    if ttl > MAX_TTL or lock_delay > MAX_TTL:
        raise InvalidTTL(f"this store keeps at most {MAX_TTL:.0f} seconds, not {max(ttl, lock_delay)}")
    kind = b"S" if limit != 1 else b"D" if lock_delay else b"L"
    raw = name.encode("utf-8", "surrogatepass")
    said = b"%b%d %d %d %d %b" % (kind, permits, limit, lock_delay * 1e6, len(raw), raw)
    kept = math.ceil(ttl * 1000) + DAY
    return word(b"%d" % (ttl * 1e6)) + word(b"%d" % kept) + word(said + info.encode("utf-8", "surrogatepass"))


def beat(keys: Keys, items: Sequence[Grant | Ticket], *, source: bool = False) -> bytes:
    """One script about all of these, grants first."""
    grants = sum(isinstance(item, Grant) for item in items)
    parts = [word(b"%d" % (4 * len(items)))]
    parts += [keys.of_name(item.claim.key) for item in items]
    parts.append(word(b"%d" % grants))
    for item in items:
        claim = item.claim
        number, ttl = (item.token, claim.ttl) if isinstance(item, Grant) else (item.number, claim.waiter_ttl)
        parts += [word(claim.owner.encode()), word(b"%d" % number), word(b"%d" % (ttl * 1e6))]
    return BEAT.head(2 + 7 * len(items), source=source) + b"".join(parts)
