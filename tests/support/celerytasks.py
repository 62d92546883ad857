"""Singleton tasks of an application that publishes into memory, and what lies there."""

from __future__ import annotations

from typing import Any

import celery

from locksmith.celery import Singleton
from locksmith.celery.ledger import Place
from locksmith.celery.wiring import wiring_of


def task(app: celery.Celery, fn: Any, **options: Any) -> Any:
    return app.task(shared=False, base=Singleton, **options)(fn)


def same(a: int) -> int:
    return a


def fixed(a: int, b: int = 2) -> int:
    return a


def entry(app: celery.Celery, key: str, what: str = "queue") -> Any:
    return wiring_of(app).ledger().read(Place(key, what))


def add(a: int, b: int = 2, *rest: int, **more: int) -> int:
    return a + b


def messages(app: celery.Celery) -> int:
    with app.connection_for_read() as connection:
        return int(connection.default_channel.queue_declare(app.conf.task_default_queue, passive=True).message_count)
