"""Paces: how much of each key was taken, in rows of their own, judged by one function on the server's clock."""

from __future__ import annotations

from abc import abstractmethod

from locksmith import names, pacing
from locksmith.pacing import Rate, Slot
from locksmith_sql.postgresql.base import Asking, array, number, numbers


class Paces(Asking):
    """The part of the store that paces."""

    async def pace(self, key: str, rates: tuple[Rate, ...], cost: int, *, at_most: float) -> Slot:
        """See Store.pace: one statement. A statement that is sent twice may book twice."""
        terms = [number(part) for each in pacing.terms(rates, cost) for part in each]
        lasting = b"t" if pacing.is_slow(rates) else b"f"
        params = [names.encode(key).encode(), array(terms), number(pacing.nanos(at_most)), lasting]
        result, _, _ = await self._ask(self._statements.pace, params)
        slot, now = numbers(result.get_value(0, 0))
        await self._tidy()
        return pacing.told(abs(slot), now, booked=slot >= 0)

    @abstractmethod
    async def _tidy(self) -> None:
        """Sweep, now and then: who only paces has no beat that would."""
