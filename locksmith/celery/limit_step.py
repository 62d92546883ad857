"""In a worker that starts: what its limited tasks need of the store is asked before it takes any message."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from locksmith.celery.limits import limits_of
from locksmith.celery.wiring import wiring_of
from locksmith.recipes.rates import RateRecipe


class LimitStep(bootsteps.Step):
    """A worker whose store cannot pace its tasks does not start: each call would fail, and be lost."""

    name = "locksmith limits"

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        for task in parent.app.tasks.values():
            check(task)


def check(task: Any) -> None:
    """Sends nothing. Raises GuaranteeMissing, with the stores that could; ConfigurationError where none is named."""
    limits = limits_of(task)
    if limits is None:
        return
    client = wiring_of(task.app).current_client()
    if limits.rates is not None:
        RateRecipe(client._engine, limits.name, limits.rates)
    if limits.concurrency is not None:
        client.semaphore(limits.name, limit=limits.concurrency, ttl=limits.ttl)
