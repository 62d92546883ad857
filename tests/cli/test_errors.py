"""What goes wrong: one line, no secrets, an exit status that scripts can tell apart."""

from __future__ import annotations

import json
import os
import stat
import subprocess

import pytest

pytestmark = pytest.mark.native_threads

SECRET = "hunter2"
COMMANDS = [["ls"], ["show", "x"], ["break", "x", "--yes"], ["watch", "--once"], ["doctor"], ["demo"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_unknown_scheme(cli, command):
    done = cli(*command, "--store", f"nope://me:{SECRET}@host/x")
    assert (done.status, done.out) == (2, "")
    assert done.error.startswith("error: no store for nope://")
    assert "sqlite://" in done.error
    assert SECRET not in done.error


@pytest.mark.redis
@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_unreachable_server(cli, command):
    done = cli(*command, "--store", f"redis://me:{SECRET}@localhost:1/0", "--json")
    assert (done.status, done.out) == (2, "")
    assert json.loads(done.error)["error"] == "StoreUnavailable"
    assert SECRET not in done.error


@pytest.mark.redis
def test_wrong_password(cli, start_redis):
    server = start_redis(password="right")
    where = server.url.rpartition("@")[2]
    done = cli("ls", "--store", f"redis://:{SECRET}@{where}", "--json")
    assert done.status == 2
    assert json.loads(done.error)["error"] == "StoreAuthError"
    assert SECRET not in done.error


def test_a_secret_from_the_environment_stays_secret(cli):
    done = cli("ls", LOCKSMITH_URL=f"nope://:{SECRET}@host")
    assert done.status == 2
    assert SECRET not in done.err


def test_not_a_database(cli, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam, " * 400)
    done = cli("ls", "--store", f"sqlite:///{tmp_path / 'letter.txt'}")
    assert done.status == 2
    assert done.error.startswith("error: ")


@pytest.mark.parametrize("words", [["nonsense"], ["ls", "--nonsense"], ["show"], ["watch", "--interval", "0"]])
def test_wrong_usage(cli, words):
    done = cli(*words)
    assert (done.status, done.out) == (2, "")
    told = cli(*words, "--json")
    assert told.status == 2
    assert set(json.loads(told.error)) == {"error", "message"}


def test_a_name_that_cannot_be(cli, store):
    assert "at least one character" in cli("show", "", "--store", store).error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "state").mkdir(mode=0o500)
    assert "--store" in cli("ls").error


def test_a_home_that_is_a_file(cli, tmp_path):
    (tmp_path / "state").write_text("")
    done = cli("ls")
    assert done.status == 2
    assert "--store" in done.error


def test_the_embedded_store_is_made_on_first_use_for_its_user_alone(cli):
    assert cli("version").status == 0
    assert not cli.state.exists()
    assert cli("ls").status == 0
    assert stat.S_IMODE((cli.state / "locksmith").stat().st_mode) == 0o700
    assert (cli.state / "locksmith" / "locksmith.db").exists()


def test_a_relative_state_directory_is_ignored(cli):
    assert cli("ls", XDG_STATE_HOME="relative").status == 0
    assert not (cli.cwd / "relative").exists()
    assert (cli.cwd / ".local" / "state" / "locksmith" / "locksmith.db").exists()


def test_a_reader_that_goes_away_is_no_error(cli, store, client):
    leases = [client.lock(f"name-{number:03}").acquire() for number in range(5)]
    running = cli.start("watch", "--store", store, "--interval", "0.05")
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    leases.pop().release()
    leases.pop().release()
    assert running.wait(timeout=20) == 141
    assert running.stderr.read() == ""
    running.stderr.close()


def test_help_needs_no_store_and_names_every_command(cli):
    for words in ([], ["--help"], ["-h"]):
        done = cli(*words, LOCKSMITH_URL="nope://")
        assert (done.status, done.err) == (0, "")
        for command in ("demo", "ls", "show", "watch", "break", "doctor", "bench", "version"):
            assert f"  {command} " in done.out
            assert cli.state.exists() is False


@pytest.mark.parametrize("command", ["demo", "ls", "show", "watch", "break", "doctor", "bench", "version"])
def test_every_command_has_the_common_options(cli, command):
    done = cli(command, "--help")
    assert done.status == 0
    for option in ("--store", "--json", "--namespace"):
        assert option in done.out


def test_output_that_cannot_be_encoded_is_escaped(cli, store, client):
    with client.lock("täglich").acquire():
        done = cli("ls", "--store", store, PYTHONIOENCODING="ascii")
    assert done.status == 0
    assert r"t\xe4glich" in done.out


def test_the_command_starts_without_drivers(cli):
    code = "import sys, locksmith.cli.app; print(*sorted({'sqlalchemy', 'redis', 'asyncio'} & set(sys.modules)))"
    import sys

    done = subprocess.run([sys.executable, "-c", code], env=cli.env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
