"""What an installation of server programs does to a Debian machine, told from a pretended apt-get."""

from __future__ import annotations

from pathlib import Path

import pytest

from locksmith.testing.servers import apt

FAKE = """#!/bin/sh
echo "$*" >> "$SEEN"
[ -x "$POLICY" ] && "$POLICY" redis start; echo "policy $?" >> "$SEEN"
case "$*" in *broken*) exit 7;; esac
"""


class Machine:
    def __init__(self, folder: Path) -> None:
        self.policy = folder / "policy-rc.d"
        self.clusters = folder / "postgresql-common" / "createcluster.conf"
        self.seen = folder / "seen"

    @property
    def lines(self) -> list[str]:
        return self.seen.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("SEEN", str(made.seen))
    monkeypatch.setenv("POLICY", str(made.policy))
    monkeypatch.setattr(apt, "_POLICY", made.policy)
    monkeypatch.setattr(apt, "_CLUSTERS", made.clusters)
    return made


def test_all_packages_come_in_one_call_which_starts_nothing(machine: Machine) -> None:
    apt.install(["redis-server", "etcd-server"])
    update, _, install, policy = machine.lines
    assert update.endswith(" update")
    assert install.endswith("install --yes --no-install-recommends redis-server etcd-server")
    assert policy == "policy 101"
    assert not machine.policy.exists()
    assert not machine.clusters.exists()


def test_a_policy_that_is_there_stays(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\nexit 104\n")
    machine.policy.chmod(0o755)
    apt.install(["redis-server"])
    assert machine.lines[-1] == "policy 104"
    assert "104" in machine.policy.read_text()


def test_a_failure_is_told_and_takes_the_policy_back(machine: Machine) -> None:
    with pytest.raises(apt.Failed, match="broken-server` failed with status 7"):
        apt.install(["broken-server"])
    assert not machine.policy.exists()


def test_no_database_is_created_for_the_whole_machine(machine: Machine) -> None:
    machine.clusters.parent.mkdir()
    apt.install(["postgresql"])
    assert machine.clusters.read_text() == "create_main_cluster = false\n"
    machine.clusters.write_text("mine")
    apt.install(["postgresql"])
    assert machine.clusters.read_text() == "mine"
