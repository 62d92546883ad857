"""The guardian: a process that starts a command, and ends it by a deadline or when its supervisor is gone.

A program of its own that imports nothing of ours: it starts in milliseconds, has one thread, and neither the
supervisor's locks, sockets nor its being stopped concern it. It is the *parent* of the command, so no command can be
started that it does not know, and it keeps the ended command as a zombie until it is told to forget it, so that the
process id means nobody else. (PR_SET_PDEATHSIG alone would not do: it follows the thread that forked, is cleared by
setuid programs and reaches no grandchild. Here it is the second line, for a guardian that is killed itself.)

On Linux it is the subreaper of everything the command starts, so that what leaves the process group is found too.

Orders are lines of JSON, on the descriptor that is its first argument; reports go to its second; the command follows.
Times are seconds of the clock that `now` reads, which counts suspend where the system has such a clock.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

SLICE: Final = 0.5
"""Seconds, at most, between two looks at the clock while a command runs: poll() does not count suspend, leases do."""
SOON: Final = 0.02
"""Seconds between two looks at what was killed and is not gone yet."""
DEFERRED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTSTP")
"""Meant for the supervisor; what a service manager sends to everybody must not end the guardian before the command."""
LISTS_CHILDREN: Final = Path(f"/proc/self/task/{os.getpid()}/children").exists()
"""Whether the kernel tells who our children are. Where it does not, only the process group can be ended."""
WINDOWS: Final = sys.platform == "win32"
_PDEATHSIG: Final = 1
_SUBREAPER: Final = 36

now: Callable[[], float] = (
    (lambda: time.clock_gettime(time.CLOCK_BOOTTIME)) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


class Terms:
    """Until when a command may run. Pure: times are passed in."""

    def __init__(self, term_at: float, kill_at: float, grace: float) -> None:
        self._term_at = term_at
        self._lease_ends = kill_at
        self._grace = grace
        self._grace_ends = math.inf
        self._told = False
        self.expired = False
        """Whether it was ended because the lease was not renewed in time."""

    def extend(self, term_at: float, kill_at: float) -> None:
        """The lease was renewed. What was told to end has no more time because of that than its grace."""
        self._term_at, self._lease_ends = max(self._term_at, term_at), max(self._lease_ends, kill_at)

    def stop(self, at: float, grace: float | None = None) -> None:
        """End it from now on: it is killed after its grace, or when the lease ends if that is sooner."""
        self._grace_ends = min(self._grace_ends, at + (self._grace if grace is None else grace))

    def told(self) -> None:
        """It was sent a signal to end by already."""
        self._told = True

    def stop_the_rest(self, at: float) -> None:
        """The command ended; whoever it left behind is told, too."""
        self.stop(at)
        self._told = False

    @property
    def kill_at(self) -> float:
        """When it is killed."""
        return min(self._lease_ends, self._grace_ends)

    def due(self, at: float) -> signal.Signals | None:
        """The signal to send at this moment."""
        if at >= self.kill_at:
            return signal.SIGKILL
        if not self._told and (self._grace_ends < math.inf or at >= self._term_at):
            self._told = True
            self.expired = self._grace_ends == math.inf
            self.stop(at)
            return signal.SIGTERM
        return None

    def next(self) -> float:
        """When something will be due."""
        return self.kill_at if self._told else min(self._term_at, self.kill_at)


class Family:
    """The command and everything it started."""

    def __init__(self, argv: list[str], environment: Mapping[str, str]) -> None:
        self._popen = subprocess.Popen(
            argv,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
        self.pid = self._popen.pid
        self.status: int | None = None

    def look(self) -> bool:
        """True once the command has just ended; it stays a zombie. Everybody else who ended is buried."""
        for pid in self.others():
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if self.status is not None:
            return False
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return False
        self.status = ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status
        return True

    def others(self) -> list[int]:
        """Those of whom we became the parent because theirs ended."""
        return [pid for pid in children() if pid != self.pid]

    def all_gone(self) -> bool:
        """Whether nobody is left."""
        return self.status is not None and not self.others()

    def tell(self, number: int) -> None:
        """Send a signal to the command alone."""
        if self.status is None:
            os.kill(self.pid, number)
            if number in (signal.SIGTERM, signal.SIGINT):
                os.kill(self.pid, signal.SIGCONT)  # a stopped process answers nothing else

    def end(self, number: int) -> None:
        """SIGTERM goes to the command, or to those whom it left behind; SIGKILL to everybody."""
        if number == signal.SIGTERM and self.status is None:
            self.tell(number)
            return
        with suppress(ProcessLookupError, PermissionError):  # the latter: macOS, where all are zombies
            os.killpg(self.pid, number)
        for pid in self.others():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def forget(self) -> None:
        """Bury the command."""
        self._popen.wait()


class Guardian:
    """Obeys, watches the clock, and reports."""

    def __init__(self, orders: int, reports: int, argv: list[str]) -> None:
        self._orders = orders
        self._reports = reports
        self._argv = argv
        self._terms = Terms(0.0, 0.0, 0.0)
        self._family: Family | None = None
        self._reported = False
        self._buffer = b""
        self._leaving = False

    def run(self, wakeups: int) -> None:
        """Serve until the orders end and nobody is left."""
        while True:
            self._watch()
            if self._leaving and self._family is None:
                return
            readers = [wakeups] if self._leaving else [wakeups, self._orders]
            ready, _, _ = select.select(readers, [], [], self._patience())
            if wakeups in ready:
                with suppress(BlockingIOError):
                    os.read(wakeups, 4096)
            if self._orders in ready:
                self._read()

    def _patience(self) -> float | None:
        family = self._family
        if family is None or family.all_gone():
            return None
        if now() >= self._terms.kill_at or family.status is not None:
            return SOON
        return max(0.0, min(SLICE, self._terms.next() - now()))

    def _watch(self) -> None:
        family = self._family
        if family is None:
            return
        if family.look():
            # Whoever stayed behind is asked to go, too, and then made to: nothing may run on when the end is reported.
            self._terms.stop_the_rest(now())
            if not LISTS_CHILDREN:
                family.end(signal.SIGKILL)
        if not family.all_gone():
            if (number := self._terms.due(now())) is not None:
                family.end(number)
            return
        if not self._reported:
            self._reported = True
            self._report(ended=family.status, expired=self._terms.expired)
        if self._leaving:
            self._forget()

    def _read(self) -> None:
        chunk = os.read(self._orders, 65536)
        if not chunk:
            self._leaving = True
            self._terms.stop(now())
            return
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if "until" in order:
            self._terms.extend(*order["until"])
        elif "start" in order:
            self._start(order)
        elif "stop" in order:
            self._stop(order["stop"], order["signal"])
        elif "forget" in order:
            self._forget()
        elif self._family is not None:
            self._family.tell(order["signal"])

    def _start(self, order: dict[str, Any]) -> None:
        self._forget()
        term_at, kill_at = order["allowed"]
        self._terms, self._reported = Terms(term_at, kill_at, order["grace"]), False
        if self._terms.due(now()) is not None:
            self._report(ended=None, expired=True)  # this order was under way for too long
            return
        try:
            self._family = Family(self._argv, order["start"])
        except OSError as error:
            # As a shell has it: 127 not found, 126 not to be executed.
            missing = isinstance(error, FileNotFoundError)
            self._report(ended=127 if missing else 126, trouble=f"{self._argv[0]}: {error.strerror}")
        else:
            self._report(started=self._family.pid)

    def _stop(self, grace: float, number: int) -> None:
        self._terms.stop(now(), grace)
        if self._family is not None:
            self._family.tell(number)
            self._terms.told()

    def _forget(self) -> None:
        if self._family is not None and self._family.all_gone():
            self._family.forget()
            self._family = None

    def _report(self, **words: object) -> None:
        with suppress(BrokenPipeError):
            os.write(self._reports, json.dumps(words).encode() + b"\n")


def children() -> list[int]:
    """Process ids of this process's children, as the kernel lists them; none where it does not."""
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]
    except OSError:
        return []


def become_subreaper() -> None:
    """Have orphans below this process become its children, where the system can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    # Between fork and exec: what was loaded before, and nothing else. We have one thread, so it cannot end before us.
    if _libc is not None:
        _libc.prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def main() -> None:
    """Called with descriptors for orders and reports, and the command."""
    orders, reports = int(sys.argv[1]), int(sys.argv[2])
    for number in (orders, reports):
        os.set_inheritable(number, False)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for name in DEFERRED:
        number = getattr(signal, name)
        # A handler and not SIG_IGN, which the command would inherit; what was ignored before stays so (nohup).
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    become_subreaper()
    Guardian(orders, reports, sys.argv[3:]).run(reading)


if __name__ == "__main__":
    main()
