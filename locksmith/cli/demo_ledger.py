"""The resource that the demo's jobs write to: an append-only file that compares fencing tokens.

A token is worth something only where it is checked. This file stands for whatever a job changes in the world, and it is
what the demo counts at its end: not what the locks say of themselves.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STARTED = "started"
COMPLETED = "completed"


class StaleToken(Exception):
    """Somebody with a greater token has written since: the writer's lease is over, whatever it believes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted write."""

    what: str
    job: str
    token: int
    worker: int


class Ledger:
    """Entries that several processes append, each checked against the greatest token its job has shown before."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, what: str, job: str, token: int, worker: int) -> None:
        """Append an entry. Raises StaleToken where a greater token has written for this job."""
        entry = json.dumps([what, job, token, worker]).encode("ascii") + b"\n"
        # Check and append are one step for other writers; the kernel unlocks the file of a writer that is killed.
        with self._alone() as file:
            greatest = max((old.token for old in self.entries() if old.job == job), default=0)
            if token < greatest:
                raise StaleToken(f"{job}: token {token} is behind {greatest}")
            os.write(file, entry)

    def entries(self) -> list[Entry]:
        """What was written so far; a line that is being written is not there yet."""
        try:
            lines = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [Entry(*json.loads(line)) for line in lines]

    def count(self, what: str) -> dict[str, int]:
        """How often each job has such an entry; 0 for those that have none."""
        counted: dict[str, int] = defaultdict(int)
        for entry in self.entries():
            counted[entry.job] += entry.what == what
        return counted

    @contextmanager
    def _alone(self) -> Iterator[int]:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)
