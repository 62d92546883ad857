"""A missing server program: the line that installs it, what a laptop does and what CI does."""

from __future__ import annotations

import pytest

from locksmith.errors import ConfigurationError
from locksmith.testing.servers import RedisServer, ServerMissing, find, install, ports, programs
from locksmith.testing.servers.__main__ import main


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without any program, whose apt-get, user and CI can be pretended."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(programs, "_has_apt", lambda: True)
    monkeypatch.setattr(programs, "_is_root", lambda: False)
    return monkeypatch


def test_a_missing_program_says_how_to_install_it(bare):
    with pytest.raises(ServerMissing, match="sudo apt-get install --yes redis-server"):
        find("redis")
    with pytest.raises(ServerMissing, match="redis-server is not installed"):
        RedisServer().start()


def test_elsewhere_another_line(bare):
    bare.setattr(programs, "_has_apt", lambda: False)
    bare.setattr(programs.sys, "platform", "darwin")
    with pytest.raises(ServerMissing, match="brew install redis"):
        find("redis")


def test_nobody_elses_machine_is_changed(bare):
    bare.setattr(programs, "_apt_install", lambda packages: pytest.fail("installed without being root"))
    with pytest.raises(ServerMissing):
        install(["redis"])


def test_root_on_debian_installs_what_is_missing(bare, tmp_path):
    asked = []

    def apt_install(packages):
        asked.extend(packages)
        program = tmp_path / "redis-server"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)

    bare.setattr(programs, "_is_root", lambda: True)
    bare.setattr(programs, "_apt_install", apt_install)
    assert install(["redis"]) == ["redis"]
    assert install(["redis"]) == []
    assert asked == ["redis-server"]


def test_an_installation_that_brought_nothing_is_a_failure(bare):
    bare.setattr(programs, "_is_root", lambda: True)
    bare.setattr(programs, "_apt_install", lambda packages: None)
    with pytest.raises(ServerMissing):
        install(["redis"])


def test_an_unknown_program_is_a_mistake():
    with pytest.raises(ConfigurationError, match="redis"):
        install(["memcached"])
    assert main(["install", "memcached"]) == 2


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("1", 1), ("false", 0), ("", 0)])
def test_a_missing_program_fails_in_ci_only(bare, capsys, ci, status):
    bare.setenv("CI", ci)
    assert main(["install", "redis"]) == status
    assert "apt-get install" in capsys.readouterr().err


def test_the_command_explains_itself(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_two_ports_never_meet(monkeypatch):
    numbers = iter([19_001, 19_001, 19_002])
    monkeypatch.setattr(ports.random, "randrange", lambda first, last: next(numbers))
    monkeypatch.setattr(ports, "_is_free", lambda number: True)
    first, second = ports.Port(), ports.Port()
    assert (first.number, second.number) == (19_001, 19_002)
    first.close()
    second.close()
