"""What Celery users import: `Singleton`, no two equal calls of a task; `RateLimited`, so many of them; `scan`."""

from __future__ import annotations

from locksmith.errors import DriverMissing

try:
    import celery as _celery  # noqa: F401
except ImportError as error:  # pragma: no cover - the tests have it
    raise DriverMissing(
        "locksmith.celery needs Celery, which is not installed: pip install 'locksmith[celery]'"
    ) from error

from locksmith.celery.clearing import clear_locks
from locksmith.celery.limited import RateLimited, RateLimitedSingleton
from locksmith.celery.scanning import scan
from locksmith.celery.singleton import Singleton
from locksmith.celery.wiring import install
from locksmith.errors import DuplicateTaskError

__all__ = [
    "DuplicateTaskError",
    "RateLimited",
    "RateLimitedSingleton",
    "Singleton",
    "clear_locks",
    "install",
    "scan",
]
