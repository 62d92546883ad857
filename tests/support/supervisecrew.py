"""Supervisors as processes, and a command that writes down when it lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import locksmith
from locksmith.testing.waiting import eventually

COMMAND = """
import os, signal, sys, time
ledger, manner = sys.argv[1:3]
def write(*words):
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    line = " ".join(map(str, [os.getpid(), os.environ["LOCKSMITH_TOKEN"], f"{now:.6f}", *words]))
    fd = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, line.encode() + b"\\n")
    os.close(fd)
def told(number, frame):
    write("told", signal.Signals(number).name)
    if manner == "polite" and number in (signal.SIGTERM, signal.SIGINT):
        write("ends")
        os._exit(7)
for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"):
    signal.signal(getattr(signal, name), told)
if manner == "runaway":
    manner = "stubborn"
    if os.fork() == 0:
        os.setsid()
        write("begins")
    else:
        write("begins")
else:
    write("begins")
while True:
    time.sleep(0.005)
    write("lives")
"""


@dataclass(frozen=True)
class Entry:
    pid: int
    token: int
    at: float
    what: str


class Ledger:
    """What the commands have written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        if not self.path.exists():
            return []
        split = [line.split(maxsplit=3) for line in self.path.read_text("utf-8").splitlines()]
        return [Entry(int(pid), int(token), float(at), what) for pid, token, at, what in split]

    def pids(self) -> list[int]:
        return list(dict.fromkeys(entry.pid for entry in self.entries()))

    def wait_for(
        self, what: str, *, pid: int | None = None, not_in: Any = (), after: int = 0, within: float = 60.0
    ) -> Entry:
        def find() -> Entry | None:
            for entry in self.entries():
                if entry.what == what and entry.pid not in not_in and pid in (None, entry.pid) and entry.token > after:
                    return entry
            return None

        found = eventually(find, within=60, what=f"{what!r} in the ledger")
        assert found is not None
        return found

    def check(self) -> None:
        """No two tokens lived at once, and tokens grow."""
        lives: dict[int, tuple[float, float]] = {}
        for entry in self.entries():
            first, _ = lives.get(entry.token, (entry.at, entry.at))
            lives[entry.token] = (first, entry.at)
        tokens = list(lives)
        assert tokens == sorted(tokens)
        for earlier, later in pairwise(tokens):
            assert lives[earlier][1] < lives[later][0], f"{earlier} and {later} lived at once: {lives}"


class Machine:
    """One supervisor."""

    def __init__(self, words: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "locksmith", "run", *words],
                env=env,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def guardian(self) -> int:
        def find() -> int | None:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()
            return int(children[0]) if children else None

        found = eventually(find, within=30)
        assert found is not None
        return found

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, within: float = 60.0) -> int:
        return self.process.wait(within)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Crew:
    """Machines that run one command, under one name."""

    def __init__(self, url: str, namespace: str, folder: Path) -> None:
        self.where = ["--store", url, "--namespace", namespace]
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.machines: list[Machine] = []
        self._client = locksmith.connect(url, namespace=namespace)

    @property
    def waiting(self) -> int:
        """How many stand in line. Asked of the store, not of `ctl`: polling starts a process each time."""
        return len(self._client.inspect("job").waiters)

    @property
    def token(self) -> int | None:
        """The holder's."""
        holders = self._client.inspect("job").holders
        return holders[0].token if holders else None

    def run(self, *options: str, manner: str = "polite", command: list[str] | None = None) -> Machine:
        words = command or [sys.executable, "-S", "-c", COMMAND, str(self.ledger.path), manner]
        log = self.folder / f"log{len(self.machines)}"
        machine = Machine(["job", *self.where, "-v", *options, "--", *words], self.env, log)
        self.machines.append(machine)
        return machine

    def leader(self, *options: str, manner: str = "polite") -> tuple[Machine, Entry]:
        """The first machine, and the command that it runs."""
        machine = self.run(*options, manner=manner)
        return machine, self.ledger.wait_for("begins")

    def standby(self, *options: str, manner: str = "polite") -> Machine:
        """Another one that stands in line."""
        before = self.waiting
        machine = self.run(*options, manner=manner)
        eventually(lambda: self.waiting > before, within=60)
        return machine

    def ctl(self, verb: str, *options: str) -> tuple[int, Any]:
        words = [sys.executable, "-m", "locksmith", "ctl", "job", verb, *self.where, "--json", *options]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=90, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def close(self) -> None:
        self._client.close()
        for machine in self.machines:
            machine.close()
        for pid in self.ledger.pids():
            assert not alive(pid), f"{pid} was left behind"
        self.ledger.check()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
