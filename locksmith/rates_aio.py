"""Rate limits, asyncio: a thin mirror of `locksmith.rates`, with the same method names and parameters."""

from __future__ import annotations

from locksmith.pacing import Slot
from locksmith.recipes.permits import check_wait
from locksmith.recipes.rates import RateRecipe


class AsyncRateLimit:
    """So many per window, for all processes that use one store. Cheap and stateless: share it between tasks.

    With `key` each key of the name has all of it for itself: one limit for each user, say. `n` is how many are taken at
    once, at most limit + burst of every rate. Whatever raises RateLimited, or answers no, has taken nothing.
    """

    __slots__ = ("_limit",)

    def __init__(self, limit: RateRecipe) -> None:
        self._limit = limit

    @property
    def name(self) -> str:
        """What it is called. Limits, cells and locks of one name are three things."""
        return self._limit.name

    async def try_take(self, n: int = 1, *, key: str | None = None) -> bool:
        """Take n if they may come now; False where they may not. One request.

        Raises ConfigurationError where n never fits, InvalidName; StoreError, where they may have been taken;
        ClientClosed.
        """
        return (await self._limit.book(n, 0.0, key)).booked

    async def take(self, n: int = 1, *, wait: float | None = None, key: str | None = None) -> Slot:
        """Book the next slot for n, one request, and come back when it is there.

        In the order of the requests: who books earlier comes first. `wait`: seconds, None for however long it takes;
        where the slot would be later RateLimited is raised at once. Who is cancelled while waiting has used the slot.
        Raises RateLimited, and as `try_take` does.
        """
        return await self._limit.take(n, check_wait(wait), key)

    async def reserve(self, n: int = 1, *, key: str | None = None) -> Slot:
        """Book the next slot for n and say when it is: in `delay` seconds, at `at` by the store's clock. One request.

        For those who pass the work on with its time. A slot is not given back. Raises as `try_take` does, and
        RateLimited where the slot would be more than 30 days ahead.
        """
        return await self._limit.insist(n, None, key)

    def __repr__(self) -> str:
        limit = self._limit
        return f"<{type(self).__name__} {limit.name!r}, {limit.shown}, at {limit.engine.store.address}>"
