"""`locksmith serve` as a user has it: servers that work, and nothing left once it was told to end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import locksmith
from locksmith.testing.servers import ServerMissing, in_ci, unpacked
from locksmith.testing.servers.catalogue import KINDS, kind
from locksmith.testing.servers.resp import ask
from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.native_threads, pytest.mark.timeout(180)]

MARKS = {
    name: getattr(pytest.mark, name.partition("-")[0].partition(":")[0])
    for name in KINDS
}  # fmt: skip
EACH = [pytest.param(name, marks=MARKS[name]) for name in KINDS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the servers have their data."""
    made = tmp_path / "data"
    made.mkdir(mode=0o755)
    for above in (tmp_path, *tmp_path.parents):
        if above.owner() == made.owner() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)  # some servers run as nobody and have to get there
    return made


@pytest.fixture
def serve(cli: Any, folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    cli.env["TMPDIR"] = str(folder)
    cli.env["XDG_CACHE_HOME"] = str(unpacked.folder("consul").parents[1])  # where the test bed has what it unpacked
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        for name in words:
            if name in KINDS and (missing := KINDS[name].missing()):
                assert not in_ci(), missing
                pytest.skip(missing)
        running.append(cli.start("serve", *words))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that it prints; what it complains of where there is none."""
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    assert said, process.communicate()
    return said


@contextmanager
def nothing_is_left(process: subprocess.Popen[str], urls: list[str], folder: Path) -> Iterator[None]:
    ports = [int(host.rpartition(":")[2]) for url in urls for host in urlsplit(url).netloc.split("@")[-1].split(",")]
    assert ports
    assert list(folder.iterdir())
    yield
    assert process.wait(60) == 0
    assert list(folder.iterdir()) == []
    for port in ports:
        with pytest.raises(OSError, match=r"refused"):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()


@pytest.mark.parametrize("name", EACH)
def test_its_url_is_that_of_a_store_that_works(serve: Any, folder: Path, name: str) -> None:
    process = serve(name)
    url = line(process)
    with locksmith.connect(url) as client:
        lease = client.lock("x").acquire(wait=20)
        assert lease.held
        lease.release()
    with nothing_is_left(process, [url], folder):
        process.send_signal(signal.SIGINT)


@pytest.mark.redis
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_several_run_until_they_are_told_to_end(serve: Any, folder: Path, number: signal.Signals) -> None:
    process = serve("redis", "redis")
    urls = [line(process), line(process)]
    assert urls[0] != urls[1]
    assert process.poll() is None
    with nothing_is_left(process, urls, folder):
        process.send_signal(number)


@pytest.mark.redis
def test_json_has_all_of_them_in_one_line(serve: Any) -> None:
    first, second = json.loads(line(serve("redis", "redis", "--json")))
    assert first["name"] == second["name"] == "redis"
    assert first["url"].startswith("redis://127.0.0.1:")
    assert first["url"] != second["url"]


@pytest.mark.redis
def test_a_server_that_dies_is_told(serve: Any, folder: Path) -> None:
    process = serve("redis", "redis")
    one = urlsplit(line(process))
    line(process)
    with socket.create_connection((one.hostname, one.port)) as connection:
        told = ask(connection, "INFO", "server")
    assert isinstance(told, str)
    os.kill(int(told.partition("process_id:")[2].split()[0]), signal.SIGKILL)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "ended by itself" in complaint
    eventually(lambda: not list(folder.iterdir()), within=20)


@pytest.mark.redis
def test_killed_it_takes_its_servers_along(serve: Any, folder: Path) -> None:
    process = serve("redis")
    url = urlsplit(line(process))
    process.kill()
    eventually(lambda: not list(folder.iterdir()), within=20)

    def refused() -> bool:  # a killed server listens until the kernel has come to it
        try:
            socket.create_connection((url.hostname, url.port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(refused, within=20)


def test_without_a_name_it_lists_what_there_is(cli: Any) -> None:
    done = cli("serve", "--json")
    assert [entry["name"] for entry in done.last_json] == list(KINDS)
    assert done.status == 0
    plain = cli("serve")
    assert all(name in plain.out for name in KINDS)


def test_no_such_server(cli: Any) -> None:
    done = cli("serve", "nonsense")
    assert (done.status, done.out) == (2, "")
    assert "there is no throwaway server 'nonsense'; there are redis, " in done.error


def test_a_program_that_is_missing_is_named_with_the_line_that_installs_it(cli: Any) -> None:
    done = cli("serve", "redis", PATH="/nonexistent")
    assert (done.status, done.out) == (2, "")
    assert done.error.startswith("error: redis-server is not installed: ")


def test_every_line_of_the_catalogue_has_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the programs are not installed: that is told by `start`, or when one is made."""
    from locksmith.testing.servers.catalogue import make

    for name in KINDS:
        try:
            made = make(name)
        except ServerMissing:
            continue
        made.close()
        assert callable(made.start)
        assert isinstance(type(made).url, property)
        assert kind(name).program


CONFTEST = 'pytest_plugins = ["locksmith.testing.fixtures"]\n'
PROGRAM = """
import locksmith
seen = []

def test_a_server(locksmith_server):
    server = locksmith_server("redis")
    seen.append(server.url)
    with locksmith.connect(server.url) as client, client.lock("x").acquire() as lease:
        assert lease.held

def test_the_same_one(locksmith_server):
    assert locksmith_server("redis").url == seen[0]
"""


def run_pytest(cli: Any, **env: str) -> tuple[str, int]:
    (cli.cwd / "conftest.py").write_text(CONFTEST)
    (cli.cwd / "test_it.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "."]
    done = subprocess.run(
        command, cwd=cli.cwd, env={**cli.env, **env}, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout, done.returncode


@pytest.mark.redis
def test_the_fixture_starts_one_for_the_session(cli: Any, folder: Path) -> None:
    if missing := KINDS["redis"].missing():
        assert not in_ci(), missing
        pytest.skip(missing)
    out, status = run_pytest(cli, TMPDIR=str(folder))
    assert (status, "2 passed" in out) == (0, True), out
    assert list(folder.iterdir()) == []


def test_the_fixture_skips_what_is_missing_except_in_ci(cli: Any) -> None:
    out, status = run_pytest(cli, PATH="/nonexistent")
    assert status == 0
    assert "redis-server is not installed: " in out
    assert "skipped" in out
    out, status = run_pytest(cli, PATH="/nonexistent", CI="true")
    assert status == 1
    assert "redis-server is not installed: " in out
