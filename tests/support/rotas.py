"""Beats without Celery's processes: rotas whose clock a test sets, and a post in the place of a broker."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

from celery import Celery
from celery.schedules import schedule

import locksmith
from locksmith.celery.beat.book import Book, page_of, task_id
from locksmith.celery.beat.entry import Entry
from locksmith.celery.beat.misfire import Misfire
from locksmith.celery.beat.moments import SECOND
from locksmith.celery.beat.rota import Rota

APP = Celery("rota", set_as_current=False)
NOON = 1_800_000_000 * SECOND // (86_400 * SECOND) * 86_400 * SECOND + 43_200 * SECOND  # 12:00 UTC
MINUTE = 60 * SECOND


class Died(BaseException):
    """The process, at this moment."""


class Post:
    """In the place of a sender: what arrived, and what is to go wrong."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.trouble: list[BaseException] = []
        self.after: list[BaseException] = []

    def send(self, entry: Any, moment: int) -> str:
        if self.trouble:
            raise self.trouble.pop(0)
        self.sent.append((entry.name, moment))
        if self.after:
            raise self.after.pop(0)
        return task_id("s", entry.name, moment)

    def minutes(self) -> list[float]:
        return [(moment - NOON) / MINUTE for _, moment in self.sent]


class Stepped(Rota):
    """A rota whose clock a test sets."""

    beats: Beats

    def step(self, now: int) -> int | None:  # type: ignore[override]
        self.beats.now = now
        return super().step()


class Beats:
    """Makes rotas of one schedule."""

    now = 0

    def __init__(self, client: locksmith.Client) -> None:
        self.client = client
        self.post = Post()
        self.lock = client.lock("beat", ttl=10)
        self.stopped = False

    def make(self, every: Any, *, now: int, me: str = "a", names: tuple[str, ...] = ("e",), **more: Any) -> Stepped:
        guard = more.pop("guard", None)
        entries = [Entry(name=name, task="t", schedule=every, app=APP) for name in names]
        rota = Stepped(
            Book(self.client, "s"), self.post, entries,  # type: ignore[arg-type]
            clock=lambda: self.now,
            me=me, ttl=10, misfire=more.pop("misfire", Misfire()), guard=guard, stopped=lambda: self.stopped, **more,
        )  # fmt: skip
        rota.beats, self.now = self, now
        rota.begin()
        return rota

    def line(self, name: str = "e") -> Any:
        return Book(self.client, "s").read(page_of(name)).lines[name]


def of_one_page(count: int) -> tuple[str, ...]:
    """Names of entries that stand on the same page, and so are claimed in one step."""
    names = (f"e{number}" for number in range(100_000))
    return tuple(itertools.islice((name for name in names if page_of(name) == 7), count))


def minutes(count: float) -> Any:
    return schedule(timedelta(minutes=count), app=APP)
