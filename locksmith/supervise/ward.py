"""The supervisor's side of its guardian: orders out, reports in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locksmith.supervise import guardian


@dataclass(frozen=True, slots=True)
class Started:
    """The command runs, as this process, which leads a session of its own."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of the command is left. `status` as shells count; None: it was never started, its time was up before."""

    status: int | None
    expired: bool = False
    """Whether it was ended because the lease was not renewed in time."""
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Orphaned:
    """The guardian was killed."""


class Ward:
    """A guardian, started at once: it costs nothing when the lease comes.

    `tell` gets Started, Ended and Orphaned, on a thread of ours.
    """

    def __init__(self, argv: Sequence[str], tell: Callable[[object], None]) -> None:
        orders, self._orders = os.pipe()
        self._reports, reports = os.pipe()
        os.set_blocking(self._orders, False)
        self._tell = tell
        # Its standard streams are ours, for the command. A program, not a module: it shall import nothing but this.
        program = str(Path(guardian.__file__))
        words = [sys.executable, "-I", "-S", program, str(orders), str(reports), *argv]
        self._process = subprocess.Popen(words, pass_fds=(orders, reports), start_new_session=True)
        os.close(orders)
        os.close(reports)
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._listen, name="locksmith-guardian", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The guardian's process id."""
        return self._process.pid

    def start(self, environment: dict[str, str], term_at: float, kill_at: float, grace: float) -> None:
        """Start the command with this added to its environment, for as long as it is allowed."""
        self._send(start=environment, allowed=[term_at, kill_at], grace=grace)

    def extend(self, term_at: float, kill_at: float) -> None:
        """Allow it to run for longer."""
        self._send(until=[term_at, kill_at])

    def stop(self, grace: float, number: int = signal.SIGTERM) -> None:
        """This signal now, SIGKILL after `grace` seconds or when its time is up."""
        self._send(stop=grace, signal=int(number))

    def signal(self, number: int) -> None:
        """Send a signal to the command."""
        self._send(signal=int(number))

    def forget(self) -> None:
        """Bury the command that ended."""
        self._send(forget=True)

    def close(self) -> None:
        """Let the guardian go; it ends what still runs. Returns when it has."""
        with self._sending:
            os.close(self._orders)
            self._orders = -1
        self._process.wait()
        self._reader.join()
        os.close(self._reports)

    def _send(self, **order: Any) -> None:
        with self._sending:
            if self._orders < 0:
                return
            # A guardian that was killed is reported elsewhere; one that is stopped cannot obey, and the deadline that
            # it has stands. Orders are shorter than PIPE_BUF or written while nothing else is in the pipe.
            with suppress(BrokenPipeError, BlockingIOError):
                os.write(self._orders, json.dumps(order).encode() + b"\n")

    def _listen(self) -> None:
        with open(self._reports, encoding="utf-8", closefd=False) as reports:
            for line in reports:
                report = json.loads(line)
                if "started" in report:
                    self._tell(Started(report["started"]))
                else:
                    self._tell(Ended(report["ended"], report.get("expired", False), report.get("trouble")))
        self._tell(Orphaned())


def kill_family(pid: int) -> None:
    """SIGKILL for the command's process group, and for whoever else became a child of ours. For when no guardian is."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    while pids := guardian.children():
        for child in pids:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)
