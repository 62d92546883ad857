"""`locksmith chunks`: what it says, its exit statuses, its JSON; a bar on a terminal only."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

import locksmith
from locksmith.chunks import ints
from locksmith.cli.app import run


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/locks.db"


@pytest.fixture
def job(url):
    """A job that is half done."""
    with locksmith.connect(url) as client:

        @locksmith.chunked("index:{table}", over=ints(0, 40, size=10), client=client)
        def index(table, chunk):
            yield chunk

        items = index("users")
        for _ in range(3):
            next(items)
        items.close()
        yield index


def ask(capsys, url, *words):
    status = run(["chunks", *words, "--store", url])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_ls(job, url, capsys):
    list(job("items"))
    status, out, _ = ask(capsys, url, "ls")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["job", "state", "done", "chunks", "left"]
    assert lines[2:] == [
        ["index:items", "done", "100.0", "%", "4"],
        ["index:users", "running", "50.0", "%", "2", *lines[3][5:]],
    ]
    assert ask(capsys, url, "ls", "index:i")[1].count("index:") == 1
    assert "no chunked jobs" in ask(capsys, url, "ls", "nothing")[1]
    found = json.loads(ask(capsys, url, "ls", "--json")[1])
    assert [(each["name"], each["state"], each["done"], each["fraction"]) for each in found] == [
        ("index:items", "done", 4, 1.0), ("index:users", "running", 2, 0.5),
    ]  # fmt: skip


def test_show_and_steer(job, url, capsys):
    status, out, _ = ask(capsys, url, "show", "index:users")
    assert status == 0
    assert "index:users: running" in out
    assert "50.0 % done: 20 of 40, in 2 chunks; 1 in work" in out
    assert "ends in " in out
    assert ask(capsys, url, "pause", "index:users")[1].startswith("index:users: paused (1 in work)")
    assert json.loads(ask(capsys, url, "show", "index:users", "--json")[1])["state"] == "paused"
    assert ask(capsys, url, "resume", "index:users")[:2][0] == 0
    assert ask(capsys, url, "cancel", "index:users")[1].startswith("index:users: cancelled")
    assert ask(capsys, url, "resume", "index:users")[0] == 1
    status, out, _ = ask(capsys, url, "forget", "index:users")
    assert (status, out) == (0, "index:users: forgotten\n")
    assert ask(capsys, url, "forget", "index:users")[0] == 1
    assert [ask(capsys, url, word, "index:users")[0] for word in ("show", "pause", "resume", "cancel")] == [1] * 4
    assert ask(capsys, url, "show", "index:users", "--json")[1] == "null\n"


def test_a_running_job_is_not_forgotten(job, url, capsys):
    status, _, err = ask(capsys, url, "forget", "index:users")
    assert status == 2
    assert "cancel it before it is forgotten" in err


def test_a_bar_on_a_terminal_only(job, url, capsys):
    assert "━" not in ask(capsys, url, "show", "index:users")[1]
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "locksmith", "chunks", "show", "index:users", "--store", url],
        stdout=theirs, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
        check=False,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:
            break
        if not more:
            break
        said += more
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "━" in said.decode()
