"""watch and the terminal: what changes is told, colours are for terminals, Ctrl-C is quiet."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import locksmith

pytestmark = pytest.mark.native_threads


class Terminal:
    """A command on a terminal of its own, and what it has written there."""

    def __init__(self, cli, *args: str, **env: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "locksmith", *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**cli.env, "COLUMNS": "100", "LINES": "30", **env},
            cwd=cli.cwd,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def see(self, wanted: str, within: float = 20) -> str:
        """Wait until this was written. Returns everything so far."""
        deadline = time.monotonic() + within
        while wanted not in self.text:
            ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"not seen: {wanted!r} in {self.text!r}"
            if not self._read():
                break
        assert wanted in self.text, self.text
        return self.text

    def interrupt(self) -> int:
        """Ctrl-C, and the exit status."""
        # Python's input() misses a signal that comes between its prompt and its reading. People press again.
        for _ in range(5):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=3)
                break
        return self.end()

    def write(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Read to the end and return the exit status."""
        with contextlib.suppress(OSError):
            while self._read():
                pass
        return self.process.wait(timeout=20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        try:
            got = os.read(self._ours, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            return False
        self.text += got.decode("utf-8", "replace")
        return bool(got)


@pytest.fixture
def terminal(cli) -> Iterator[type]:
    opened: list[Terminal] = []

    def start(*args: str, **env: str) -> Terminal:
        opened.append(Terminal(cli, *args, **env))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@contextlib.contextmanager
def lines_of(cli, *args: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict]]]:
    running = cli.start(*args)
    watchdog = threading.Timer(30, running.kill)
    watchdog.start()
    try:
        yield running, map(json.loads, running.stdout)
    finally:
        watchdog.cancel()
        running.kill()
        running.communicate()


def test_watch_tells_each_change_once(cli, store, client):
    with lines_of(cli, "watch", "--store", store, "--interval", "0.05") as (running, told):
        lease = client.lock("x").acquire(note="one")
        held = next(told)
        assert (held["name"], held["holders"][0]["token"], held["waiters"]) == ("x", lease.token, [])
        waiting = threading.Thread(target=lambda: client.lock("x").acquire(note="two").release())
        waiting.start()
        assert [waiter["note"] for waiter in next(told)["waiters"]] == ["two"]
        lease.release()
        waiting.join()
        # The second holder was there for a moment only, and may have been seen or not.
        last = next(line for line in told if not line["holders"])
        assert (last["name"], last["waiters"]) == ("x", [])
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 130
        assert running.stderr.read() == ""


def test_watch_once(cli, store, client):
    with client.lock("a").acquire(), client.lock("b").acquire():
        done = cli("watch", "--once", "--store", store, "--json")
    assert [json.loads(line)["name"] for line in done.out.splitlines()] == ["a", "b"]


def test_watch_is_live_on_a_terminal(store, client, terminal):
    with client.lock("x").acquire(note="live"):
        seen = terminal("watch", "--store", store, "--interval", "0.05")
        seen.see("live")
        with client.lock("newcomer").acquire():
            seen.see("newcomer")
        assert seen.interrupt() == 130
    assert "Traceback" not in seen.text
    assert seen.text.count("\x1b[?1049h") == seen.text.count("\x1b[?1049l") == 1, "the screen is given back"


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["plain", "NO_COLOR", "dumb"],
)
def test_colours_on_a_terminal(store, client, terminal, env, coloured):
    with client.lock("x").acquire():
        seen = terminal("ls", "--store", store, **env)
        assert seen.end() == 0
    assert bool(re.search(r"\x1b\[(\d+;)*3\d", seen.text)) is coloured


def test_no_colours_elsewhere_unless_forced(cli, store, client):
    with client.lock("x").acquire():
        assert "\x1b" not in cli("ls", "--store", store).out
        assert "\x1b[32m" in cli("ls", "--store", store, FORCE_COLOR="1").out


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1)])
def test_break_asks_on_a_terminal(store, client, terminal, answer, status):
    lease = client.lock("x").acquire(note="whose")
    seen = terminal("break", "x", "--store", store)
    text = seen.see("[y/N]")
    assert "whose" in text
    assert str(lease.token) in text
    seen.write(answer + "\n")
    assert seen.end() == status
    if status == 0:
        with pytest.raises(locksmith.LeaseLost):
            lease.release()
    else:
        assert lease.release() is True


def test_break_is_not_a_yes_on_ctrl_c(store, client, terminal):
    with client.lock("x").acquire() as lease:
        seen = terminal("break", "x", "--store", store)
        seen.see("[y/N]")
        assert seen.interrupt() == 130
        lease.check()
        assert client.inspect("x").holders
