"""`locksmith ctl` and the supervisors that hear it."""

from __future__ import annotations

from typing import Any

import pytest
from supervisecrew import alive

from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.native_threads, pytest.mark.slow, pytest.mark.timeout(180)]

LONG = "60"
"""A ttl that no test waits for: what happens in time happens because of a release."""


def test_status(crew: Any) -> None:
    assert crew.ctl("status") == (1, {"name": "job", "paused": False, "token": None, "waiting": 0, "report": None})
    machine, command = crew.leader("--ttl", LONG)
    crew.standby("--ttl", LONG)

    def told() -> Any:
        status, said = crew.ctl("status")
        assert status == 0
        return said if said["report"] and said["report"]["child"] else None

    said = eventually(told, within=60)
    assert (said["token"], said["waiting"], said["paused"]) == (command.token, 1, False)
    report = said["report"]
    assert (report["supervisor"], report["child"], report["phase"]) == (machine.pid, command.pid, "running")


def test_restart_stays_where_it_is(crew: Any) -> None:
    _, command = crew.leader("--ttl", LONG)
    crew.standby("--ttl", LONG)
    assert crew.ctl("restart")[0] == 0
    assert not alive(command.pid)
    assert crew.ledger.wait_for("begins", not_in=[command.pid]).token == command.token


def test_handover_goes_to_the_next_in_line(crew: Any) -> None:
    first, command = crew.leader("--ttl", LONG)
    crew.standby("--ttl", LONG)
    assert crew.ctl("handover")[0] == 0
    assert not alive(command.pid)
    assert crew.ledger.wait_for("begins", not_in=[command.pid]).token > command.token
    assert first.process.poll() is None
    eventually(lambda: crew.waiting == 1, within=60)
    assert crew.ctl("status")[1]["waiting"] == 1


def test_paused_is_nobody_until_resumed(crew: Any) -> None:
    _, command = crew.leader("--ttl", LONG)
    crew.standby("--ttl", LONG)
    assert crew.ctl("pause")[0] == 0
    assert not alive(command.pid)
    late = crew.run("--ttl", LONG)
    eventually(lambda: crew.waiting == 0, within=60)
    said = crew.ctl("status")[1]
    assert (said["paused"], said["waiting"]) == (True, 0)
    assert late.process.poll() is None
    pids = crew.ledger.pids()
    assert crew.ctl("resume")[0] == 0
    crew.ledger.wait_for("begins", not_in=pids)


def test_stop_ends_all_of_them(crew: Any) -> None:
    first, _ = crew.leader("--ttl", LONG)
    second = crew.standby("--ttl", LONG)
    assert crew.ctl("stop")[0] == 0
    assert (first.wait(), second.wait()) == (0, 0)
    # Older orders are not for whoever is started later.
    crew.run("--ttl", LONG)
    eventually(lambda: crew.token, within=60)
    assert crew.ctl("status")[1]["token"]


def test_nobody_to_be_told(crew: Any) -> None:
    assert crew.ctl("restart") == (1, {"name": "job", "order": "restart", "done": False})
    assert crew.ctl("handover") == (1, {"name": "job", "order": "handover", "done": False})
