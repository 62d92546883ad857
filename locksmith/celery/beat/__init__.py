"""Celery beat on many machines: `celery -A proj beat -S locksmith`."""

from __future__ import annotations

from locksmith.celery.beat.scheduler import LocksmithScheduler

__all__ = ["LocksmithScheduler"]
