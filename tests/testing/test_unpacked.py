"""Programs of another Debian release: whose entry is taken, what becomes of it, and where the program then lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from locksmith.testing.servers import ServerMissing, find, install, programs, unpacked

SOURCES = """\
# comment
Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/20250101T000000Z
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""
LIST = """\
deb http://mirror.example/security bookworm-security main
# deb http://mirror.example/old bookworm main
deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm contrib main
"""


def test_the_machines_own_entry_with_another_suite() -> None:
    text = unpacked._deb822(SOURCES, "bookworm", "bullseye")
    assert text is not None
    lines = text.splitlines()
    assert "URIs: http://mirror.example/20250101T000000Z" in lines
    assert lines[-2:] == ["Suites: bullseye", "Components: main"]
    assert [line for line in lines if "bookworm" in line or "contrib" in line] == []
    assert " -----BEGIN PGP PUBLIC KEY BLOCK-----" in lines
    assert unpacked._deb822(SOURCES, "trixie", "bullseye") is None


def test_the_same_on_one_line() -> None:
    text = unpacked._one_line(LIST, "bookworm", "bullseye")
    assert text == "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bullseye main\n"
    assert unpacked._one_line(LIST, "trixie", "bullseye") is None


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Debian machine without Consul, whose user may change nothing but a cache folder."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "_has_apt", lambda: True)
    monkeypatch.setattr(programs, "_is_root", lambda: False)
    return tmp_path / "cache" / "locksmith" / "consul"


def test_it_is_found_in_the_cache_and_needs_no_root(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerMissing, match="servers install consul"):
        find("consul")
    asked: list[tuple[str, str]] = []

    def unpack(package: str, suite: str) -> Path:
        asked.append((package, suite))
        program = bare / "usr" / "bin" / "consul"
        program.parent.mkdir(parents=True)
        program.touch(0o755)
        return bare

    monkeypatch.setattr(unpacked, "unpack", unpack)
    assert install(["consul"]) == ["consul"]
    assert find("consul") == bare / "usr" / "bin" / "consul"
    assert install(["consul"]) == []
    assert asked == [("consul", "bullseye")]


def test_what_cannot_be_had_is_said(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(package: str, suite: str) -> Path:
        raise unpacked.Unobtainable("no network")

    monkeypatch.setattr(unpacked, "unpack", unpack)
    with pytest.raises(ServerMissing, match="bullseye: no network"):
        install(["consul"])
    assert not bare.exists()
