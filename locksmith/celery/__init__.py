"""What Celery users import: `Singleton`, the base class of tasks of which no two equal calls are queued or run."""

from __future__ import annotations

from locksmith.celery.singleton import Singleton
from locksmith.celery.wiring import install
from locksmith.errors import DuplicateTaskError

__all__ = ["DuplicateTaskError", "Singleton", "install"]
