"""Paces: how much of each key was taken, in rows of their own, each judged by one procedure (procedures.py)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from locksmith import names, pacing
from locksmith.pacing import Rate, Slot
from locksmith.store import Store
from locksmith_sql.mysql.desk import Desk

SWEEP_WITHIN: Final = 5.0
"""Seconds that sweeping may take after a decision; sweeping is rare."""


class Paces(Store):
    """The part of the store that paces."""

    _desk: Desk

    async def pace(self, key: str, rates: tuple[Rate, ...], cost: int, *, at_most: float) -> Slot:
        """See Store.pace: one request. A request that is sent twice may book twice."""
        terms = "".join(f"{part} " for each in pacing.terms(rates, cost) for part in each)
        values = (names.encode(key), terms, len(rates), pacing.nanos(at_most))
        answer = await self._desk.ask(self._desk.sql.pace, values)
        slot, now = (int(part) for part in answer.reply.rows[0])
        await self._sweep(self.runtime.clock.now() + SWEEP_WITHIN)
        return pacing.told(abs(slot), now, booked=slot >= 0)

    @abstractmethod
    async def _sweep(self, until: float) -> None:
        """Forget, now and then, what nobody uses any more: who only paces has no beat that would."""
