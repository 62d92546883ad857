"""The two faces are mirrors: the same public names, and the same parameters behind them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import locksmith
from locksmith import (
    aio,
    cells,
    cells_aio,
    changes,
    client,
    elections,
    elections_aio,
    multilocks,
    multilocks_aio,
    rates,
    rates_aio,
)

PAIRS = [
    (client.Client, aio.AsyncClient),
    (client.Lock, aio.AsyncLock),
    (client.Semaphore, aio.AsyncSemaphore),
    (client.RWLock, aio.AsyncRWLock),
    (client.Lease, aio.AsyncLease),
    (client.LostSignal, aio.AsyncLostSignal),
    (elections.Election, elections_aio.AsyncElection),
    (elections.Leadership, elections_aio.AsyncLeadership),
    (cells.Cell, cells_aio.AsyncCell),
    (multilocks.MultiLock, multilocks_aio.AsyncMultiLock),
    (multilocks.MultiLease, multilocks_aio.AsyncMultiLease),
    (multilocks.MultiLostSignal, multilocks_aio.AsyncMultiLostSignal),
    (changes.Changes, changes.AsyncChanges),
    (rates.RateLimit, rates_aio.AsyncRateLimit),
]
ONLY_ASYNC = {"cancel_on_loss"}
"""Parameters that have no meaning for threads: nothing can cancel one."""
ONLY_BLOCKING = {"stop"}
"""Parameters that have no meaning for tasks: one that is to stop is cancelled."""


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def parameters(function: Any) -> dict[str, Any]:
    found = inspect.signature(function).parameters
    return {name: (it.kind, it.default) for name, it in found.items() if name not in ONLY_ASYNC | ONLY_BLOCKING}


@pytest.mark.parametrize(("blocking", "asyncio"), PAIRS, ids=lambda cls: cls.__name__)
def test_the_same_names_and_parameters(blocking: type, asyncio: type) -> None:
    assert asyncio.__name__ == f"Async{blocking.__name__}"
    assert public(blocking) == public(asyncio)
    for name in public(blocking):
        one, other = getattr(blocking, name), getattr(asyncio, name)
        if callable(one):
            assert parameters(one) == parameters(other), name


def test_connect() -> None:
    assert parameters(locksmith.connect) == parameters(aio.connect)
