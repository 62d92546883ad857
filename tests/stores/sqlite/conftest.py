"""Stores on files of their own, claims, and a clock that tests move."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from locksmith import names
from locksmith.runtime import Blocking, drive
from locksmith.store import Claim
from locksmith_sql import SQLiteStore

WORKER = Path(__file__).with_name("worker.py")


class HandClock:
    """What clock.HostClock answers, moved by hand."""

    def __init__(self) -> None:
        self.era = 7
        self.micros = 1_000_000_000
        self.wall_micros = 1_700_000_000_000_000

    def now(self) -> int:
        return self.micros

    def wall(self) -> int:
        return self.wall_micros

    def advance(self, seconds: float) -> None:
        self.micros += round(seconds * 1_000_000)
        self.wall_micros += round(seconds * 1_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks.db"


@pytest.fixture
def open_store(path: Path) -> Iterator[Callable[..., SQLiteStore]]:
    """Open a store on this test's file (or `url=`); with `clock=` on that clock."""
    opened: list[SQLiteStore] = []

    def make(*, url: str | None = None, clock: HandClock | None = None, namespace: str = "test") -> SQLiteStore:
        store = SQLiteStore.from_url(url or f"sqlite:///{path}", runtime=Blocking(), namespace=namespace)
        if clock is not None:
            store._desk.clock = clock  # type: ignore[assignment]
        opened.append(store)
        return store

    yield make
    for store in opened:
        drive(store.close())


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def claim() -> Callable[..., Claim]:
    def make(name: str = "a", **settings: Any) -> Claim:
        values: dict[str, Any] = {
            "owner": secrets.token_hex(16),
            "ttl": 30.0,
            "permits": 1,
            "limit": 1,
            "waiter_ttl": 10.0,
            "lock_delay": 0.0,
            "info": "{}",
        }
        return Claim(name=name, key=names.encode(name), **{**values, **settings})

    return make


@pytest.fixture
def start_worker(path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start worker.py on this test's file: `start_worker("count", 100)`."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(WORKER), f"sqlite:///{path}", *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
