"""Paces: how much of each key was taken, as one string of doubles, judged by one script on the server's clock."""

from __future__ import annotations

import struct
from functools import lru_cache

from locksmith import names, pacing
from locksmith.pacing import Rate, Slot
from locksmith_redis.base import Asking
from locksmith_redis.scripts import PACE, word


class Paces(Asking):
    """The part of the store that paces."""

    async def pace(self, key: str, rates: tuple[Rate, ...], cost: int, *, at_most: float) -> Slot:
        """See Store.pace: one request. A request that is sent twice may book twice."""
        tail = self._keys.pace(names.encode(key)) + _terms(rates, cost, pacing.nanos(at_most))
        (slot, now), _, _ = await self._ask(PACE, tail)
        return pacing.told(abs(slot), now, booked=slot >= 0)


@lru_cache(maxsize=1024)
def _terms(rates: tuple[Rate, ...], cost: int, at_most: int) -> bytes:
    """The arguments of a decision, as words of a request."""
    numbers = [number for each in pacing.terms(rates, cost) for number in each]
    form = f">{'d' * (len(numbers) + 1)}"
    return word(struct.pack(form, at_most, *numbers)) + word(form.encode())
