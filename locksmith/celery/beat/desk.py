"""What a beat that fires reads of people's orders, and reports of itself."""

from __future__ import annotations

from typing import Final

from locksmith.celery.beat.moments import SECOND
from locksmith.celery.beat.notices import Notices, Orders, Report
from locksmith.celery.beat.rota import Rota
from locksmith.celery.beat.settings import Settings
from locksmith.client import Lease

EVERY: Final = SECOND
"""Microseconds between two looks at the orders."""
_REPORT_EVERY: Final = 5 * SECOND
_AGENDA: Final = 20


class Desk:
    """Of the leader of one share, for as long as it leads."""

    def __init__(self, notices: Notices, settings: Settings, shard: int, lead: Lease | None) -> None:
        self._notices = notices
        self._settings = settings
        self._shard = shard
        self._lead = lead
        self._term = 0 if lead is None else lead.token
        self.orders = Orders()
        self._version = 0
        self._looked = self._told = -(1 << 62)

    def look(self, now: int) -> bool:
        """Read the orders where it is time to; whether they have changed. Raises StoreError."""
        if abs(now - self._looked) < EVERY:
            return False
        orders, version = self._notices.orders()
        self._looked = now
        changed, self.orders, self._version = version != self._version, orders, version
        return changed

    @property
    def hands_over(self) -> bool:
        """Whether this very term was told to end."""
        return self._term != 0 and self.orders.handover.get(str(self._shard)) == self._term

    def tell(self, rota: Rota, now: int) -> None:
        """Report where it is time to. Raises StoreError, LeaseLost."""
        if abs(now - self._told) < _REPORT_EVERY:
            return
        due = tuple((round(at / SECOND, 3), name) for at, name in rota.agenda(_AGENDA))
        lag, rota.lag = rota.lag / SECOND, 0
        report = Report(
            self._term, self._settings.name, now / SECOND, rota.entries, rota.sent, lag,
            shards=self._settings.shards, open=rota.open, due=due,
        )  # fmt: skip
        self._notices.tell(report, self._lead, self._shard)
        self._told = now
