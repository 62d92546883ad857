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
    ClientClosed,
    ConfigurationError,
    DriverMissing,
    GuaranteeMissing,
    InheritedLease,
    InvalidName,
    InvalidTTL,
    LeaseLost,
    LocksmithError,
    ResultNotRecorded,
    SelfDeadlock,
    SettingsConflict,
    StoreAuthError,
    StoreError,
    StoreProtocolError,
    StoreUnavailable,
    UnknownScheme,
)
from locksmith.store import Guarantee

if TYPE_CHECKING:
    from locksmith import aio
    from locksmith.adapters.run_once import SKIPPED, current_lease, run_once

__version__ = "0.1.0"

__all__ = [
    "SKIPPED",
    "AcquireTimeout",
    "AlreadyRunning",
    "CellConflict",
    "CellTooLarge",
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "DriverMissing",
    "Guarantee",
    "GuaranteeMissing",
    "InheritedLease",
    "InvalidName",
    "InvalidTTL",
    "Lease",
    "LeaseLost",
    "Lock",
    "LocksmithError",
    "RWLock",
    "ResultNotRecorded",
    "SelfDeadlock",
    "Semaphore",
    "SettingsConflict",
    "StoreAuthError",
    "StoreError",
    "StoreProtocolError",
    "StoreUnavailable",
    "UnknownScheme",
    "aio",
    "connect",
    "current_lease",
    "run_once",
]


def __getattr__(name: str) -> Any:
    # asyncio, inspect and functools' heavier parts are loaded when they are asked for.
    if name == "aio":
        return import_module("locksmith.aio")
    if name in ("SKIPPED", "current_lease", "run_once"):
        value = getattr(import_module("locksmith.adapters.run_once"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
