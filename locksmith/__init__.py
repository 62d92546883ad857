"""locksmith: locks, leases and run-once over Redis, SQL databases and other stores, chosen by URL."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from locksmith.client import Client, Lease, Lock, RWLock, Semaphore, connect
from locksmith.errors import (
    AcquireTimeout,
    AlreadyRunning,
    CellConflict,
    CellTooLarge,
    ChunkFailed,
    ClientClosed,
    ConfigurationError,
    DriverMissing,
    GuaranteeMissing,
    InheritedLease,
    InvalidFence,
    InvalidName,
    InvalidTTL,
    LeaseLost,
    LocksmithError,
    RateLimited,
    ResultNotRecorded,
    SelfDeadlock,
    SettingsConflict,
    StaleToken,
    StoreAuthError,
    StoreError,
    StoreProtocolError,
    StoreUnavailable,
    UnknownScheme,
)
from locksmith.store import ABSENT, ANY, Guarantee

if TYPE_CHECKING:
    from locksmith import aio
    from locksmith.adapters.chunked import chunked
    from locksmith.adapters.rate_limited import rate_limited
    from locksmith.adapters.run_once import SKIPPED, current_lease, run_once
    from locksmith.cells import Cell
    from locksmith.elections import Election, Leadership
    from locksmith.fencing import Fence, Watermark
    from locksmith.multilocks import MultiLease, MultiLock
    from locksmith.pacing import Slot
    from locksmith.rates import RateLimit
    from locksmith.recipes.cells import Versioned
    from locksmith.recipes.election import Leader

__version__ = "0.1.0"

__all__ = [
    "ABSENT",
    "ANY",
    "SKIPPED",
    "AcquireTimeout",
    "AlreadyRunning",
    "Cell",
    "CellConflict",
    "CellTooLarge",
    "ChunkFailed",
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "DriverMissing",
    "Election",
    "Fence",
    "Guarantee",
    "GuaranteeMissing",
    "InheritedLease",
    "InvalidFence",
    "InvalidName",
    "InvalidTTL",
    "Leader",
    "Leadership",
    "Lease",
    "LeaseLost",
    "Lock",
    "LocksmithError",
    "MultiLease",
    "MultiLock",
    "RWLock",
    "RateLimit",
    "RateLimited",
    "ResultNotRecorded",
    "SelfDeadlock",
    "Semaphore",
    "SettingsConflict",
    "Slot",
    "StaleToken",
    "StoreAuthError",
    "StoreError",
    "StoreProtocolError",
    "StoreUnavailable",
    "UnknownScheme",
    "Versioned",
    "Watermark",
    "aio",
    "chunked",
    "connect",
    "current_lease",
    "rate_limited",
    "run_once",
]


_LATER = {
    "SKIPPED": "locksmith.adapters.run_once",
    "current_lease": "locksmith.adapters.run_once",
    "run_once": "locksmith.adapters.run_once",
    "chunked": "locksmith.adapters.chunked",
    "rate_limited": "locksmith.adapters.rate_limited",
    "RateLimit": "locksmith.rates",
    "Slot": "locksmith.pacing",
    "Cell": "locksmith.cells",
    "Versioned": "locksmith.recipes.cells",
    "Election": "locksmith.elections",
    "Leadership": "locksmith.elections",
    "Leader": "locksmith.recipes.election",
    "Fence": "locksmith.fencing",
    "Watermark": "locksmith.fencing",
    "MultiLease": "locksmith.multilocks",
    "MultiLock": "locksmith.multilocks",
}
"""asyncio, inspect and functools' heavier parts are loaded when they are asked for."""


def __getattr__(name: str) -> Any:
    if name == "aio":
        return import_module("locksmith.aio")
    if name in _LATER:
        value = getattr(import_module(_LATER[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
