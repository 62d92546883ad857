"""The demo's worker processes: starting them, hearing from them, killing them, leaving none behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

import locksmith
from locksmith.cli.demo_worker import Orders

_LAST_WORDS: Final = 4096


@dataclass(frozen=True, slots=True)
class News:
    """What a worker said; the event "ended" is our own word for the end of its process."""

    worker: int
    event: str
    facts: dict[str, Any]


class Worker:
    """One process."""

    def __init__(self, orders: Orders, news: queue.Queue[News]) -> None:
        self.number = orders.worker
        self.process = subprocess.Popen(
            [sys.executable, *_safe_path(), "-m", "locksmith.cli.demo_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A group of their own: Ctrl-C on the terminal is for the demo, which ends them.
            process_group=0,
        )
        self.stderr = b""
        self._news = news
        # stdin stays open: its end tells the worker that the demo is over.
        with contextlib.suppress(BrokenPipeError):
            _pipe(self.process.stdin).write(orders.as_line())
            _pipe(self.process.stdin).flush()
        self._readers = [
            threading.Thread(target=read, name=f"demo-worker-{self.number}", daemon=True)
            for read in (self._read_news, self._read_stderr)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal; nothing where it has ended. Popen knows the process as long as it is ours to signal."""
        self.process.send_signal(number)

    def end(self) -> None:
        """Kill it if it lives, and see it gone."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                _pipe(pipe).close()

    def _read_news(self) -> None:
        for line in _pipe(self.process.stdout):
            with contextlib.suppress(ValueError):
                facts = json.loads(line)
                self._news.put(News(self.number, facts.pop("event"), facts))
        self.process.wait()
        self._readers[1].join()
        last = self.stderr.decode(errors="replace").strip().splitlines()
        self._news.put(News(self.number, "ended", {"status": self.process.returncode, "why": last[-1] if last else ""}))

    def _read_stderr(self) -> None:
        for line in _pipe(self.process.stderr):
            self.stderr = (self.stderr + line)[-_LAST_WORDS:]


class Crew:
    """All the workers; a `with` that leaves no process behind, however it ends."""

    def __init__(self, orders: list[Orders]) -> None:
        self._orders = orders
        self._news: queue.Queue[News] = queue.Queue()
        self.workers: dict[int, Worker] = {}

    def __enter__(self) -> Self:
        try:
            for orders in self._orders:
                self.workers[orders.worker] = Worker(orders, self._news)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill who still lives, and wait for all."""
        for worker in self.workers.values():
            worker.signal(signal.SIGKILL)
        for worker in self.workers.values():
            worker.end()

    def news(self, wait: float) -> Iterator[News]:
        """What has been said, after waiting at most `wait` seconds for the first word."""
        try:
            yield self._news.get(timeout=wait)
            while True:
                yield self._news.get_nowait()
        except queue.Empty:
            return

    @contextlib.contextmanager
    def paused(self, number: int) -> Iterator[Worker]:
        """A worker that stands still meanwhile, so that what is seen of it stays true."""
        worker = self.workers[number]
        worker.signal(signal.SIGSTOP)
        # SIGSTOP takes a moment; the kernel says when it has.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        try:
            yield worker
        finally:
            worker.signal(signal.SIGCONT)


def _safe_path() -> list[str]:
    # Somebody's random.py in the current directory must not be what a worker imports; a checkout is found by it.
    return [] if Path(locksmith.__file__).parents[1] == Path.cwd() else ["-P"]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - for the type checker: all three are pipes
    return pipe
