"""What the store knows of a task's key and of a worker: two small records, as JSON in cells."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, Literal

from locksmith.errors import ConfigurationError
from locksmith.runtime import SystemClock

FORMAT: Final = 1
State = Literal["queued", "running", "kept"]
_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True)
class Entry:
    """Which call has a key, and what is known of it."""

    id: str
    """The task id: the owner."""
    task: str
    state: State
    """queued: published and not begun (again); running: begun by `worker`; kept: nobody's business until its ttl."""
    by: str
    """host:pid of the process that wrote this."""
    at: float
    """Wall clock of that host, for people."""
    worker: str | None = None
    """The incarnation of the worker that runs it."""
    late: bool = False
    """Acknowledged only after its run: the broker delivers it again where its worker died."""
    since: float = 0.0
    """The clock of the worker's host when it began: compared with Presence.at of that same worker alone."""
    version: int = 0
    """Of the cell it was read from."""
    key: str | None = None
    """Where the cell's name does not tell it."""
    theirs: str | None = None
    """The key of celery-singleton that it has as well: see honouring.py."""

    @property
    def pid(self) -> int:
        """Of the process that wrote this."""
        return int(self.by.rpartition(":")[2])

    @property
    def age(self) -> float:
        """Seconds in this state, for people: the clocks of two hosts may differ."""
        return max(0.0, time.time() - self.at)

    def dump(self) -> bytes:
        """As the cell holds it."""
        told: dict[str, Any] = {
            "v": FORMAT, "id": self.id, "task": self.task, "state": self.state, "by": self.by, "at": self.at,
        }  # fmt: skip
        if self.key is not None:
            told["key"] = self.key
        if self.theirs is not None:
            told["theirs"] = self.theirs
        if self.worker is not None or self.state == "running":
            told |= {"worker": self.worker, "late": self.late, "since": self.since}
        return json.dumps(told, separators=(",", ":")).encode("ascii")

    @staticmethod
    @lru_cache(maxsize=1024)  # thousands of duplicates read the same bytes
    def load(raw: bytes, version: int, key: str) -> Entry:
        """Of a cell's value. Raises ConfigurationError where something else has written it."""
        try:
            told = json.loads(raw)
            if told["v"] != FORMAT or told["state"] not in ("queued", "running", "kept"):
                raise ValueError
            return Entry(
                told["id"], told["task"], told["state"], told["by"], float(told["at"]),
                told.get("worker"), bool(told.get("late")), float(told.get("since", 0.0)), version,
                told.get("key"), told.get("theirs"),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError(
                f"what the store has under the key {key!r} was not written by this version of locksmith.celery: "
                f"wait until all processes run the same version, or clear the key"
            ) from None


@dataclass(frozen=True, slots=True)
class Presence:
    """A worker's word that it lives, and which calls it has."""

    name: str
    by: str
    at: float
    """The clock of its host when `ids` was read."""
    ids: frozenset[str] | None
    """Of the calls that wait or run in this worker; None where they are too many to list."""

    def dump(self) -> bytes:
        """As the cell holds it."""
        ids = None if self.ids is None else sorted(self.ids)
        told = {"v": FORMAT, "name": self.name, "by": self.by, "at": self.at, "ids": ids}
        return json.dumps(told, separators=(",", ":")).encode("ascii")

    @staticmethod
    def load(raw: bytes) -> Presence:
        """Of a cell's value. What cannot be read says only that the worker lives."""
        try:
            told = json.loads(raw)
            ids = told["ids"] if told["v"] == FORMAT else None
            return Presence(
                str(told["name"]), str(told["by"]), float(told["at"]), None if ids is None else frozenset(ids)
            )
        except (ValueError, KeyError, TypeError):
            return Presence("?", "?", 0.0, None)


def here(pid: int | None = None) -> str:
    """host:pid of this process, or of another one of this host."""
    return f"{_host()}:{os.getpid() if pid is None else pid}"


def host_clock() -> float:
    """Seconds that all processes of one host count alike."""
    return _CLOCK.now()


@cache
def _host() -> str:
    return socket.gethostname()
