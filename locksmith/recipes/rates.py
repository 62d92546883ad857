"""Rate limits: at most so many in any window, for everybody who uses one store. By the algorithm of `pacing`."""

from __future__ import annotations

import hashlib
import math
from typing import Final

from locksmith import names, pacing
from locksmith.engine.core import Engine
from locksmith.errors import ConfigurationError, InvalidName, RateLimited
from locksmith.pacing import Rate, Slot
from locksmith.recipes.needs import require
from locksmith.recipes.permits import check_count
from locksmith.store import Guarantee

_SHORTENED: Final = "~sha256:"


class RateRecipe:
    """A limit by name: what both faces of a RateLimit stand on. Stateless."""

    def __init__(self, engine: Engine, name: str, rates: tuple[Rate, ...]) -> None:
        require(engine.store, Guarantee.CLOCK, "a rate limit")
        names.encode(name)
        self.engine = engine
        self.name = name
        self.rates = rates

    async def book(self, cost: int, within: float | None, key: str | None) -> Slot:
        """The next slot, if it is within so many seconds (None: whenever it is). See RateLimit.

        Raises ConfigurationError, InvalidName, StoreError, ClientClosed.
        """
        check_count("the cost", cost, most=min(rate.most for rate in self.rates))
        place = place_of(self.name, key)
        self.engine.refuse_unusable()
        return await self.engine.store.pace(place, self.rates, cost, at_most=math.inf if within is None else within)

    async def take(self, cost: int, wait: float | None, key: str | None) -> Slot:
        """Book, and let the time until the slot pass. Raises RateLimited as well."""
        slot = await self.insist(cost, wait, key)
        runtime = self.engine.runtime
        due = runtime.clock.now() + slot.delay
        while (left := due - runtime.clock.now()) > 0:
            await runtime.sleep(left)
        return slot

    async def insist(self, cost: int, within: float | None, key: str | None) -> Slot:
        """Book. Raises RateLimited where the slot would be too late."""
        slot = await self.book(cost, within, key)
        if slot.booked:
            return slot
        who = f"{self.name!r}" if key is None else f"{self.name!r} for {key!r}"
        raise RateLimited(
            f"{who} is limited to {self.shown}: {cost} more fit in {slot.delay:.6g} s; nothing was taken",
            retry_after=slot.delay,
        )

    @property
    def shown(self) -> str:
        """The rates, for people."""
        return " and ".join(f"{rate} (burst {rate.burst})" if rate.burst else str(rate) for rate in self.rates)


def place_of(name: str, key: object) -> str:
    """What a store calls a key of a limit: one to one, and too long for no store. Raises InvalidName."""
    if key is None:
        place = f"={name}"
    elif not isinstance(key, str) or not key:
        raise InvalidName(f"a key is text that is not empty, not {key!r}")
    else:
        # The length says where the name ends, whatever is in it; what has no key begins with no digit.
        place = f"{len(name)}={name}={key}"
    raw = place.encode("utf-8", "surrogatepass")
    return place if len(raw) <= names.MAX_BYTES else f"{_SHORTENED}{hashlib.sha256(raw).hexdigest()}"


def parse(rates: tuple[object, ...], burst: object) -> tuple[Rate, ...]:
    """See pacing.parse. Raises ConfigurationError where it is a name that was forgotten."""
    if not rates:
        raise ConfigurationError("a limit has a name and then its rates: rate_limit('sms', '70/s')")
    return pacing.parse(rates, burst)
