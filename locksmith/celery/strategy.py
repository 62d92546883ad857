"""In a worker's parent process: a message of a rate-limited task gets its slot when it arrives, and waits for it there.

As Celery's own messages with an eta do: unacknowledged, in no slot of a pool, and without the way back through a queue
in which thousands may wait. So a backlog keeps to the whole of its rate. What must not be decided here is left to the
process that runs the call: where an eta of its own comes first, where the store is away.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery.worker.state import revoked
from celery.worker.strategy import default

from locksmith.celery import marks, slots
from locksmith.celery.limits import Limits, limits_of
from locksmith.celery.slots import Pass
from locksmith.celery.wiring import wiring_of
from locksmith.client import Client
from locksmith.errors import StoreError
from locksmith.pacing import Rate
from locksmith.recipes import places
from locksmith.recipes.rates import RateRecipe
from locksmith.runtime import drive

SLOWEST: Final = 5.0
"""Seconds for which a worker's parent asks nothing of a store that did not answer: it has other messages to take."""
NOTED: Final = 1.0
"""Seconds ahead from which on a slot is noted in the store, for the case that the message is delivered again."""


def paced(task: Any, app: Any, consumer: Any, **kwargs: Any) -> Any:
    """Celery's strategy, for messages that were given their slot before."""
    handle = default(task, app, consumer, **kwargs)
    limits = limits_of(task)
    if limits is None or limits.rates is None:
        return handle
    desk = Desk(limits, limits.rates)

    def handler(message: Any, *args: Any, **kwargs: Any) -> Any:
        desk.give(message)
        return handle(message, *args, **kwargs)

    return handler


class Desk:
    """Gives the messages of one task their slots."""

    def __init__(self, limits: Limits, rates: tuple[Rate, ...]) -> None:
        self._limits = limits
        self._rates = rates
        self._closed_until = 0.0

    def give(self, message: Any) -> None:
        """Book the slot of a message that has none, and write it into its headers with the eta; or leave it alone."""
        headers = message.headers
        if not isinstance(headers, dict) or "id" not in headers or time.monotonic() < self._closed_until:
            return
        call = headers["id"], headers.get("retries") or 0
        ends_or_waits = call[0] in revoked or _is_past(headers.get("expires")) or _is_ahead(headers.get("eta"))
        if ends_or_waits or _follows(headers) or slots.of(headers, call).at:
            return
        try:
            ticket, delay = self._slot(message, call)
        except StoreError:
            self._closed_until = time.monotonic() + SLOWEST  # the process that runs it says so
            return
        except Exception:  # noqa: BLE001 - of a key, say, that is somebody's function: this process has other messages
            return  # the process that runs it raises the same
        if ticket.at:
            headers[slots.HEADER] = ticket.dump(call)
            if delay > 0:
                eta = datetime.now(UTC) + timedelta(seconds=min(delay, self._limits.hold))
                headers["eta"] = eta.isoformat()

    def _slot(self, message: Any, call: tuple[str, int]) -> tuple[Pass, float]:
        client = wiring_of(self._limits.task.app).current_client()
        place = places.of_task(f"{call[1]}:{call[0]}", "slot")
        if (message.delivery_info or {}).get("redelivered") and (known := _noted(client, place)):
            # The process that runs it looks at the time.
            return Pass(known), 0.0
        key = None
        if self._limits.key_of is not None:
            args, kwargs, _ = message.payload
            key = self._limits.key_of(tuple(args), kwargs)
        slot = drive(RateRecipe(client._engine, self._limits.name, self._rates).book(self._limits.cost, None, key))
        if not slot.booked:
            return Pass(), 0.0
        if slot.delay > NOTED:
            store = client._engine.store
            ttl = max(slot.delay + slots.grace(self._rates, 0), store.min_ttl)
            with suppress(StoreError):  # the slot is booked; a second delivery would book another one
                drive(store.put(place, json.dumps(slot.at).encode(), ttl=ttl))
        return Pass(slot.at), slot.delay


def _follows(headers: dict[str, Any]) -> bool:
    """Whether it is a duplicate that waits for the result of another call: most of those never begin."""
    mark = marks.read(headers.get(marks.HEADER))
    return mark is not None and mark.after is not None


def _noted(client: Client, place: str) -> int:
    client._engine.refuse_unusable()
    cell = drive(client._engine.store.get(place))
    return 0 if cell is None else int(json.loads(cell.value))


def _is_past(moment: object) -> bool:
    at = _moment(moment)
    return at is not None and at <= datetime.now(UTC)


def _is_ahead(moment: object) -> bool:
    at = _moment(moment)
    return at is not None and at > datetime.now(UTC)


def _moment(text: object) -> datetime | None:
    with suppress(ValueError):
        if isinstance(text, str):
            at = datetime.fromisoformat(text)
            return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return None
