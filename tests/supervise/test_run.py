"""`locksmith run` on real stores: one command at a time, whatever is killed, stopped or cut off."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from supervisecrew import COMMAND, Crew, alive

import locksmith
from locksmith.testing.waiting import eventually

pytestmark = [
    pytest.mark.native_threads,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc"),
]

LONG = "60"
"""A ttl that no test waits for: what happens in time happens because of a release."""


def gone(pid: int) -> Any:
    return eventually(lambda: not alive(pid), within=60, what=f"process {pid} is gone")


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_status_and_streams_are_those_of_the_command(crew: Any, script: str, status: int) -> None:
    said = 'echo "$LOCKSMITH_NAME:$LOCKSMITH_TOKEN"; printf "no newline"; '
    machine = crew.run(command=["sh", "-c", said + script])
    out, _ = machine.process.communicate(timeout=60)
    first, rest = out.split("\n")
    assert (first.partition(":")[0], rest, machine.process.returncode) == ("job", "no newline", status)
    assert int(first.partition(":")[2]) > 0


def test_the_command_can_be_fenced(crew: Any) -> None:
    """Its environment is all that it needs to be refused when it is late: see docs/fencing.md."""
    program = "import locksmith; print(locksmith.Fence.from_environment().to_header())"
    tokens = []
    for _ in range(2):
        machine = crew.run(command=[sys.executable, "-c", program])
        out, _ = machine.process.communicate(timeout=60)
        fence = locksmith.Fence.from_header(out.strip())
        assert fence.name == "job"
        tokens.append(fence.token)
    assert tokens == sorted(set(tokens))


def test_a_command_that_cannot_be_started(crew: Any, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    assert crew.run("--restart", "always", command=[str(tmp_path / "missing")]).wait() == 127
    assert crew.run("--restart", "always", command=[str(plain)]).wait() == 126


def test_told_to_end_it_lets_the_next_one_run_at_once(crew: Any) -> None:
    first, command = crew.leader("--ttl", LONG)
    crew.standby("--ttl", LONG)
    first.send(signal.SIGTERM)
    successor = crew.ledger.wait_for("begins", after=command.token)
    assert first.wait() == 7
    assert crew.ledger.wait_for("told SIGTERM", pid=command.pid)
    assert successor.token > command.token


def test_a_standby_that_is_told_to_end_leaves_the_line(crew: Any) -> None:
    crew.leader("--ttl", LONG)
    standby = crew.standby("--ttl", LONG)
    standby.send(signal.SIGTERM)
    assert standby.wait() == 0
    assert crew.waiting == 0


def test_what_ignores_sigterm_is_killed_after_its_grace(crew: Any) -> None:
    machine, _ = crew.leader("--ttl", LONG, "--grace", "0.3", manner="stubborn")
    machine.send(signal.SIGTERM)
    assert machine.wait() == 137


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT"])
def test_signals_are_passed_on(crew: Any, name: str) -> None:
    machine, command = crew.leader("--ttl", LONG, "--grace", "1")
    machine.send(signal.Signals[name])
    crew.ledger.wait_for(f"told {name}", pid=command.pid)
    if name == "SIGINT":
        assert machine.wait() == 7


@pytest.mark.parametrize("manner", ["polite", "stubborn", "runaway"])
def test_a_killed_supervisor_takes_the_command_with_it(crew: Any, manner: str) -> None:
    first, command = crew.leader("--ttl", "3", "--grace", "1", manner=manner)
    crew.standby("--ttl", "3", "--grace", "1")
    first.send(signal.SIGKILL)
    gone(command.pid)
    crew.ledger.wait_for("begins", after=command.token)
    crew.ledger.check()


@pytest.mark.parametrize("manner", ["polite", "stubborn", "runaway"])
def test_a_stopped_supervisor_does_not_keep_the_command(crew: Any, manner: str) -> None:
    first, command = crew.leader("--ttl", "3", manner=manner)
    crew.standby("--ttl", "3")
    first.send(signal.SIGSTOP)
    successor = crew.ledger.wait_for("begins", after=command.token)
    first.send(signal.SIGCONT)
    assert not alive(command.pid)
    # It stands in line again, and nothing of it runs meanwhile.
    eventually(lambda: crew.waiting == 1, within=60)
    lives = len(crew.ledger.entries())
    eventually(lambda: len(crew.ledger.entries()) > lives + 20, within=60)
    assert alive(successor.pid)
    crew.ledger.check()


def test_a_killed_guardian_takes_the_command_with_it(crew: Any) -> None:
    first, command = crew.leader("--ttl", LONG, manner="runaway")
    crew.standby("--ttl", LONG)
    os.kill(first.guardian, signal.SIGKILL)
    assert first.wait() == 69
    assert not alive(command.pid)
    crew.ledger.wait_for("begins", after=command.token)
    crew.ledger.check()


def test_a_stopped_guardian_and_a_lost_lease(crew: Any) -> None:
    """The supervisor is the second line."""
    machine, command = crew.leader("--ttl", "3", manner="stubborn")
    os.kill(machine.guardian, signal.SIGSTOP)
    evict(crew, command.token)
    gone(command.pid)
    os.kill(machine.guardian, signal.SIGCONT)
    crew.ledger.wait_for("begins", after=command.token)


def evict(crew: Any, token: int) -> None:
    with locksmith.connect(crew.where[1], namespace=crew.where[3]) as client:
        assert client.evict("job", token)


LEAVES_SOMEBODY = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    os.execv(sys.executable, [sys.executable, "-S", "-c", *sys.argv[1:]])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
"""


def test_what_it_left_behind_ends_before_the_next_one_starts(crew: Any) -> None:
    """A command that ends while something it started runs on, in a session of its own."""
    left = [COMMAND, str(crew.ledger.path), "stubborn"]
    first = crew.run("--ttl", LONG, "--grace", "0.5", command=[sys.executable, "-S", "-c", LEAVES_SOMEBODY, *left])
    assert first.wait() == 0
    (pid,) = crew.ledger.pids()
    assert not alive(pid)


@pytest.mark.redis
def test_a_server_that_does_not_answer(start_redis: Callable[..., Any], namespace: str, tmp_path: Path) -> None:
    server = start_redis()
    crew = Crew(server.url, namespace, tmp_path)
    try:
        _, command = crew.leader("--ttl", "3", manner="stubborn")
        server.pause()
        gone(command.pid)
        server.resume()
        # Under the same token, where the lease was renewed in its last moment: then nothing else could have run.
        begun = crew.ledger.wait_for("begins", not_in={command.pid})
        assert begun.token >= command.token
    finally:
        crew.close()


def test_once(crew: Any) -> None:
    crew.leader("--ttl", LONG)
    assert crew.run("--once", "--ttl", LONG).wait() == 75


def test_once_without_a_store(crew: Any) -> None:
    crew.where[1] = "redis://127.0.0.1:9/0"
    assert crew.run("--once").wait() == 2


def test_restart(crew: Any, tmp_path: Path) -> None:
    count = ["sh", "-c", f'echo x >> {tmp_path}/count; test "$(wc -l < {tmp_path}/count)" -lt 3 && exit 5; exit 0']
    machine = crew.run("--ttl", LONG, "--restart", "on-failure", command=count)
    assert machine.wait() == 0
    assert (tmp_path / "count").read_text() == "x\n" * 3


def test_no_zombies_as_process_1(crew: Any, tmp_path: Path) -> None:
    """Orphans of the command become the guardian's children, and are buried."""
    script = f"(sh -c 'echo $$ > {tmp_path}/orphan; sleep 0.2' &) ; exec sleep 1000"
    crew.run("--ttl", LONG, command=["sh", "-c", script])
    orphan = int(eventually(lambda: (tmp_path / "orphan").exists() and (tmp_path / "orphan").read_text(), within=60))
    eventually(lambda: not Path(f"/proc/{orphan}").exists(), within=60, what="the orphan was buried")
