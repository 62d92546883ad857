"""Permits out of a limit: one primitive for lock, semaphore and read-write lock."""

from __future__ import annotations

import json
import math
import os
from functools import lru_cache
from typing import Final

from locksmith import names
from locksmith.errors import ConfigurationError, GuaranteeMissing, InvalidTTL
from locksmith.store import Claim, Guarantee, Store

ALL: Final = 2**20
"""The limit of every read-write lock: a reader takes one permit of it, a writer all."""
MAX_NOTE: Final = 256
"""Characters of a note, which is for people."""


class Permits:
    """A name with settings: how many permits there are and how a claim for some of them looks. Stateless."""

    __slots__ = ("key", "limit", "lock_delay", "name", "permits", "strict_ttl", "ttl", "waiter_ttl")

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        ttl: float,
        waiter_ttl: float,
        limit: int = 1,
        permits: int = 1,
        lock_delay: float = 0.0,
        strict_ttl: bool = False,
    ) -> None:
        self.name = name
        self.key = names.encode(name)
        self.ttl = check_ttl(ttl, store.min_ttl)
        self.waiter_ttl = max(min(waiter_ttl, self.ttl), store.min_ttl)
        self.limit = check_count("limit", limit, most=ALL)
        if self.limit != 1 and store.exclusive_only:
            raise GuaranteeMissing(f"{store.address} has exclusive locks only: use another store for more permits")
        self.permits = permits
        self.lock_delay = check_seconds("lock_delay", lock_delay)
        self.strict_ttl = strict_ttl
        if lock_delay and Guarantee.LOCK_DELAY not in store.guarantees:
            raise GuaranteeMissing(
                f"{store.address} does not offer LOCK_DELAY: leave lock_delay out, or use a store that does"
            )

    def claim(self, permits: int = 1, note: str | None = None, max_hold: float | None = None) -> Claim:
        """A new claim, with an owner of its own; `permits` times what this recipe takes. Raises ConfigurationError."""
        wanted = self.permits
        if permits != 1 or permits is True:
            wanted *= check_count("permits", permits, most=self.limit // self.permits)
        ttl, waiter_ttl = self.ttl, self.waiter_ttl
        if max_hold is not None and check_seconds("max_hold", max_hold, positive=True) < ttl:
            ttl = max_hold
            waiter_ttl = min(waiter_ttl, ttl)
        return Claim(
            self.name,
            self.key,
            os.urandom(16).hex(),
            ttl,
            wanted,
            self.limit,
            waiter_ttl,
            self.lock_delay,
            _describe(check_note(note)),
        )


def check_ttl(ttl: object, least: float) -> float:
    """A ttl in seconds that a store can keep. Raises InvalidTTL."""
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not math.isfinite(ttl) or ttl <= 0:
        raise InvalidTTL(f"ttl is a positive, finite number of seconds, not {ttl!r}")
    if ttl < least:
        raise InvalidTTL(f"ttl={ttl} is too small for this store, which keeps at least {least} seconds")
    return float(ttl)


def check_seconds(what: str, seconds: object, *, positive: bool = False) -> float:
    """A duration that is not negative. Raises ConfigurationError."""
    ok = isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not ok or seconds < 0 or (positive and seconds == 0):  # type: ignore[operator]
        raise ConfigurationError(
            f"{what} is a {'positive, ' if positive else ''}finite number of seconds, not {seconds!r}"
        )
    return float(seconds)  # type: ignore[arg-type]


def check_wait(wait: object) -> float | None:
    """How long to stand in line: None is without bound, 0 one try. Raises ConfigurationError."""
    if wait is None or (isinstance(wait, float) and wait == math.inf):
        return None
    return check_seconds("wait", wait)


def check_count(what: str, count: object, *, most: int) -> int:
    """A whole number from 1 to `most`. Raises ConfigurationError."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
        raise ConfigurationError(f"{what} is a whole number from 1 to {most}, not {count!r}")
    return count


def check_note(note: object) -> str | None:
    """A note for people. Raises ConfigurationError."""
    if note is not None and (not isinstance(note, str) or len(note) > MAX_NOTE):
        raise ConfigurationError(f"a note is text of at most {MAX_NOTE} characters")
    return note


def hostname() -> str:
    """What this machine is called."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket  # pragma: no cover - Windows; elsewhere its import is not worth a name

    return socket.gethostname()


@lru_cache(maxsize=256)
def _describe(note: str | None) -> str:
    facts = {"host": hostname(), "pid": os.getpid()} | ({} if note is None else {"note": note})
    return json.dumps(facts, separators=(",", ":"))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_describe.cache_clear)
