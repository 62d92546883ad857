"""A process that has imported what workers need, and forks each of them: ten milliseconds instead of half a second.

It has one thread and no client, so what it forks starts like a program of its own, and ends like one: through the end
of the interpreter, with its exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any, Final

from locksmith import registry
from locksmith.errors import LocksmithError

_LONGEST: Final = 1 << 16
"""Bytes of a request."""
_STDIO: Final = 3


class Nursling:
    """A process of the nursery, with what Worker needs of subprocess.Popen."""

    def __init__(self, nursery: Nursery, setup: str) -> None:
        self._nursery = nursery
        self._status: int | None = None
        self._once = threading.Lock()
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        ours_err, theirs_err = os.pipe()
        self.stdin = os.fdopen(ours_in, "w", encoding="utf-8")
        self.stdout = os.fdopen(ours_out, encoding="utf-8")
        self.stderr = os.fdopen(ours_err, encoding="utf-8")
        theirs = [theirs_in, theirs_out, theirs_err]
        try:
            self.pid: int = nursery.ask({"setup": setup, "folder": str(Path.cwd())}, theirs)
        finally:
            for number in theirs:
                os.close(number)
        self._ended = os.pidfd_open(self.pid)
        weakref.finalize(self, os.close, self._ended)  # not in `wait`: another thread may wait, too

    def send_signal(self, number: int) -> None:
        """See Popen. Its process id is nobody else's before `wait` has asked for the status."""
        with self._once:
            if self._status is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """See Popen."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """See Popen."""
        if self._status is None:
            self._wait_for_its_end(timeout)
        with self._once:
            if self._status is None:
                self._status = os.waitstatus_to_exitcode(self._nursery.ask({"ended": self.pid}))
            return self._status

    def _wait_for_its_end(self, timeout: float | None) -> None:
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)


class Nursery:
    """The process, from the side of those who want workers. It ends with this one, however that ends."""

    def __init__(self, options: list[str], environment: dict[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *options, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal is for us
            )

    def ask(self, request: dict[str, Any], files: list[int] | None = None) -> int:
        """The answer to one request. Raises ConnectionError where the nursery has ended."""
        with self._asking:
            socket.send_fds(self._control, [json.dumps(request).encode()], files or [])
            answer = self._control.recv(_LONGEST)
        if not answer:
            raise ConnectionError("the process that forks workers has ended")
        return int(answer)

    def close(self) -> None:
        """End it. What it has forked goes on."""
        self._control.close()
        self._process.wait()


_nurseries: dict[tuple[Any, ...], Nursery] = {}
_founding: Final = threading.Lock()


def possible() -> bool:
    """Whether a nursery can be had: on Linux, and not where gevent has replaced what it waits with."""
    return hasattr(os, "pidfd_open") and "gevent.monkey" not in sys.modules


def nursery(options: list[str], environment: dict[str, str]) -> Nursery:
    """The one of this process for such workers, started when it is first asked for."""
    key = (os.getpid(), *options, *sorted(item for item in environment.items() if item[0] != "PYTEST_CURRENT_TEST"))
    with _founding:
        if key not in _nurseries:
            _nurseries[key] = Nursery(options, environment)
            atexit.register(_close, os.getpid(), _nurseries[key])
        return _nurseries[key]


def _close(founder: int, founded: Nursery) -> None:
    if os.getpid() == founder:
        founded.close()


# ------------------------------------------------------------------------------------------------ in the nursery


def _next_setup(control: socket.socket) -> str | None:
    """Fork for every request. Returns twice and more: the setup in each child, and None when nobody asks any more."""
    while True:
        message, files, _, _ = socket.recv_fds(control, _LONGEST, _STDIO)
        if not message:
            return None
        request = json.loads(message)
        if "ended" in request:
            _, answer = os.waitpid(request["ended"], 0)
        else:
            setup: str = request["setup"]
            _import_store(json.loads(setup)["url"])
            answer = os.fork()
            if answer == 0:
                control.close()
                _become(request["folder"], files)
                return setup
            for number in files:
                os.close(number)
        control.send(str(answer).encode())


def _import_store(url: str) -> None:
    with contextlib.suppress(LocksmithError):  # the worker says so, too
        registry._by_scheme(url.partition(":")[0])


def _become(folder: str, files: list[int]) -> None:
    os.chdir(folder)
    for wanted, number in enumerate(files):
        os.dup2(number, wanted)
    for number in files:
        os.close(number)


def main() -> None:
    """Fork workers until whoever asks for them is gone."""
    from locksmith.testing import processes
    from locksmith.testing.contract import faces

    assert faces.FACES
    control = socket.socket(fileno=int(sys.argv[1]))
    if (setup := _next_setup(control)) is not None:
        processes.serve(setup)


if __name__ == "__main__":
    main()
