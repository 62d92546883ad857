"""What all throwaway servers have in common: a folder, a port, and a life that tests command."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from locksmith.errors import LocksmithError
from locksmith.testing.servers.ports import HOST, Port
from locksmith.testing.servers.process import Process
from locksmith.testing.servers.programs import find

START_ATTEMPTS: Final = 5
LOG_TAIL: Final = 4000
_PAUSE: Final = 0.005


class ServerFailed(LocksmithError):
    """The server did not start, or is not in a state where this can be done: the message has the end of its log."""


class Server(ABC):
    """A real server on a loopback port of its own, with its data in a temporary folder.

    Not started by the constructor: `start` it, or use it in a `with` statement, which also cleans up. A server that is
    never closed is ended, and its folder removed, when this process exits or dies.
    """

    program: ClassVar[str]
    """The name in `programs.PROGRAMS`."""
    clash: ClassVar[str] = "Address already in use"
    """What the log says where the port was taken."""
    start_seconds: ClassVar[float] = 30.0
    """How long a start may take."""
    stop_seconds: ClassVar[float] = 10.0
    """How long a clean stop may take before SIGKILL."""

    refuses_root: ClassVar[bool] = False
    """Whether the program will not run as root: then root starts it as `nobody`, in a folder that is nobody's."""

    def __init__(self) -> None:
        self._executable: Path | None = None
        self._folder: Path | None = None
        self._port: Port | None = None
        self._process: Process | None = None
        self._creator = os.getpid()

    # ------------------------------------------------------------------ what tests command

    def start(self) -> Self:
        """Start the server, and return when it answers. After a stop or a kill: on the same port, with the same data.

        Raises:
            ServerMissing: its program is not installed; the message has the line that installs it.
            ServerFailed: it runs already, or did not answer within `start_seconds`.
        """
        if self.running:
            raise ServerFailed(f"{self!r} runs already")
        self._executable = self._executable or find(self.program)
        if self._port is not None:
            self._launch()
        else:
            self._first_start()
        return self

    def stop(self) -> None:
        """End the server as an operator would (SIGTERM), and wait for it. Its data stays; `start` brings it back."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL, and wait for it. What it had not written to disk is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server and start it again: same port, same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): connections stay open and nothing is answered, until `resume`."""
        self._running().pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        self._running().resume()

    def close(self) -> None:
        """End the server and remove its data. Safe to repeat; does nothing in a process that was forked."""
        if os.getpid() != self._creator:
            return
        atexit.unregister(self.close)
        self._end(signal.SIGTERM)
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------ what tests ask

    @property
    def host(self) -> str:
        """The address it listens on."""
        return HOST

    @property
    def port(self) -> int:
        """The port it listens on; the same after a restart. Raises ServerFailed before the first start."""
        if self._port is None:
            raise ServerFailed(f"{type(self).__name__} has no port before it was started and after it was closed")
        return self._port.number

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as sockets and `Proxy` take them."""
        return self.host, self.port

    @property
    def user(self) -> str | None:
        """The user that the program runs as; None: the one that runs this."""
        return "nobody" if self.refuses_root and os.geteuid() == 0 else None

    @property
    def folder(self) -> Path:
        """Where it keeps its data. Raises ServerFailed before the first start."""
        if self._folder is None:
            raise ServerFailed(f"{type(self).__name__} has no folder before it was started and after it was closed")
        return self._folder

    @property
    def pid(self) -> int:
        """The process id. Raises ServerFailed while it does not run."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether its process lives (a paused one does)."""
        return self._process is not None and self._process.alive

    def log(self) -> str:
        """What it has written to its log so far, over all restarts."""
        if self._folder is None or not self._log_path().exists():
            return ""
        return self._log_path().read_text("utf-8", "replace")

    def __repr__(self) -> str:
        place = f"{HOST}:{self._port.number}" if self._port else "never started"
        return f"<{type(self).__name__} {place}{' running' if self.running else ''}>"

    # ------------------------------------------------------------------ what a kind of server says

    def _prepare(self) -> None:  # noqa: B027  (most servers have nothing to prepare)
        """Called once, when the folder is there and no port is chosen yet."""

    @abstractmethod
    def _command(self, executable: Path) -> Sequence[str]:
        """The command line; port and folder are known."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server can be used now. An OSError means no."""

    # ------------------------------------------------------------------ inside

    def _first_start(self) -> None:
        atexit.register(self.close)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=f"locksmith-{self.program}-"))
            if self.user is not None:
                shutil.chown(self._folder, self.user)
            self._prepare()
            self._launch_somewhere()
        except BaseException:
            self.close()
            raise

    def _launch_somewhere(self) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            self._port = Port()
            try:
                self._launch()
            except ServerFailed:
                clashed = self.clash in self.log()
                self._port.close()
                self._port = None
                if not clashed or attempt == START_ATTEMPTS:
                    raise
                self._log_path().unlink()
            else:
                return

    def _launch(self) -> None:
        assert self._executable is not None
        command = self._command(self._executable)
        self._process = Process(command, folder=self.folder, log=self._log_path(), user=self.user)
        try:
            self._await_answer(self._process)
        except BaseException:
            self._end(signal.SIGKILL)
            raise

    def _await_answer(self, process: Process) -> None:
        deadline = time.monotonic() + self.start_seconds
        while not self._asked():
            if not process.alive:
                raise ServerFailed(
                    f"{self.program} ended with status {process.status} while it started\n{self._tail()}"
                )
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.program} did not answer within {self.start_seconds:g} s\n{self._tail()}")
            time.sleep(_PAUSE)  # a server that starts has no event to wait for

    def _asked(self) -> bool:
        try:
            return self._answers()
        except OSError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.end(number, grace=self.stop_seconds)
            self._process = None

    def _running(self) -> Process:
        if self._process is None or not self._process.alive:
            raise ServerFailed(f"{self!r} does not run\n{self._tail()}")
        return self._process

    def _log_path(self) -> Path:
        return self.folder / "server.log"

    def _tail(self) -> str:
        return self.log()[-LOG_TAIL:]
