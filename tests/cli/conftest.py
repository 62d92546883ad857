"""The command line as a user has it: a process of its own, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import locksmith

COMMAND = [sys.executable, "-m", "locksmith"]


@dataclass(frozen=True)
class Done:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def last_json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])

    @property
    def error(self) -> str:
        """The one line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Cli:
    """Runs commands with an environment that is nobody's."""

    def __init__(self, home: Path) -> None:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LOCKSMITH_", "XDG_"))
            and name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "CI"}
        }
        self.state = home / "state"
        self.env = {**kept, "HOME": str(home), "XDG_STATE_HOME": str(self.state), "TERM": "xterm-256color"}
        self.cwd = home

    def __call__(self, *args: str, stdin: str | None = None, timeout: float = 50, **env: str) -> Done:
        done = subprocess.run(
            [*COMMAND, *args],
            env={**self.env, **env},
            cwd=self.cwd,
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        """A command that goes on running."""
        pipe = subprocess.PIPE
        given = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, "text": True} | options
        return subprocess.Popen([*COMMAND, *args], env=self.env, cwd=self.cwd, **given)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'locks.db'}"


@pytest.fixture
def client(store: str) -> Iterator[locksmith.Client]:
    with locksmith.connect(store, ttl=30) as opened:
        yield opened
