"""A child process that cannot outlive us."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# Reads until its standard input ends, which is when we are gone, however that came about. (PR_SET_PDEATHSIG would be
# shorter, but it follows the *thread* that forked.)
_GUARDIAN: Final = 'read -r _; kill -KILL "$1" 2>/dev/null; rm -rf -- "$2"'


class Process:
    """A running program in a session of its own, so that Ctrl-C in a terminal leaves it to our clean-up.

    When this process dies, a guardian kills the program and removes its folder. (A process forked from this one keeps
    the guardian waiting for as long as it lives.)
    """

    def __init__(self, argv: Sequence[str], *, folder: Path, log: Path, user: str | None = None) -> None:
        """Start `argv` in `folder`, with its output appended to `log`, as `user` where one is named.

        Raises:
            OSError: the program cannot be started.
        """
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                argv,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )
        self._guardian = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN, "guardian", str(self._popen.pid), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id of the program."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether the program still runs (a stopped one does)."""
        if self._popen.poll() is None:
            return True
        self._dismiss_guardian()
        return False

    @property
    def status(self) -> int | None:
        """The exit status, or None while the program runs; negative: the signal that ended it."""
        return self._popen.poll()

    def end(self, number: signal.Signals, *, grace: float) -> None:
        """Send the signal and wait for the end; after `grace` seconds send SIGKILL. Does nothing where it ended."""
        # First, so that it never acts on a process id that has been reaped and may belong to somebody else.
        self._dismiss_guardian()
        if self._popen.poll() is not None:
            return
        self._popen.send_signal(number)
        if number is not signal.SIGKILL:
            self._popen.send_signal(signal.SIGCONT)  # a stopped process answers no other signal
        try:
            self._popen.wait(grace)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def pause(self) -> None:
        """Stop the program with SIGSTOP; returns when it stands still.

        Raises:
            ProcessLookupError: it ended before.
        """
        self._must_live()
        self._popen.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a stopped program go on.

        Raises:
            ProcessLookupError: it ended before.
        """
        self._must_live()
        self._popen.send_signal(signal.SIGCONT)

    def _must_live(self) -> None:
        if not self.alive:
            raise ProcessLookupError(f"process {self.pid} ended with status {self.status}")

    def _dismiss_guardian(self) -> None:
        if self._guardian.poll() is None:
            self._guardian.kill()
            self._guardian.wait()
        if self._guardian.stdin is not None:
            self._guardian.stdin.close()
