"""Which programs the throwaway servers need, where they are found, and how a missing one gets installed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from locksmith.errors import ConfigurationError, LocksmithError
from locksmith.testing.servers import apt, unpacked

_TRUE: Final = frozenset({"1", "true", "yes", "on"})


class ServerMissing(LocksmithError):
    """A program that this test needs is not installed: run the line in the message, or skip the test."""


@dataclass(frozen=True)
class Program:
    """A program, and the packages it comes in."""

    executable: str
    debian: str
    homebrew: str
    places: tuple[str, ...] = ()
    """Where it lies when it is not on PATH, as patterns; of several matches the last one counts."""
    suite: str = ""
    """The Debian release whose package is unpacked into a cache folder, because the present one has none."""

    @property
    def install_line(self) -> str:
        """The command that installs the program on this kind of machine."""
        if _has_apt() and self.suite:
            return f"python -m locksmith.testing.servers install {self.debian}"
        if _has_apt():
            sudo = "" if _is_root() else "sudo "
            return f"{sudo}apt-get update && {sudo}apt-get install --yes {self.debian}"
        if sys.platform == "darwin":
            return f"brew install {self.homebrew}"
        return f"install the package that has {self.executable} ({self.debian} on Debian)"


PROGRAMS: Final = {
    "redis": Program("redis-server", debian="redis-server", homebrew="redis"),
    "postgresql": Program(
        "postgres", debian="postgresql", homebrew="postgresql@17", places=("/usr/lib/postgresql/*/bin/postgres",)
    ),
    "pgbouncer": Program("pgbouncer", debian="pgbouncer", homebrew="pgbouncer", places=("/usr/sbin/pgbouncer",)),
    "mariadb": Program("mariadbd", debian="mariadb-server", homebrew="mariadb", places=("/usr/sbin/mariadbd",)),
    "zookeeper": Program(
        "zkServer.sh",
        debian="zookeeper default-jre-headless",
        homebrew="zookeeper",
        places=("/usr/share/zookeeper/bin/zkServer.sh",),
    ),
    "etcd": Program("etcd", debian="etcd-server", homebrew="etcd"),
    "consul": Program("consul", debian="consul", homebrew="consul", suite="bullseye"),
    "rabbitmq": Program(
        # What Debian has on PATH is a wrapper around this one that root and the user "rabbitmq" alone may run.
        "rabbitmq-server",
        debian="rabbitmq-server",
        homebrew="rabbitmq",
        places=("/usr/lib/rabbitmq/bin/rabbitmq-server",),
    ),
    "openssl": Program("openssl", debian="openssl", homebrew="openssl"),
}
"""By the name that `install` takes."""


def in_ci() -> bool:
    """Whether this is a run where nothing may be skipped: the environment variable CI says true."""
    return os.environ.get("CI", "").strip().lower() in _TRUE


def find(name: str) -> Path:
    """Where the program of `PROGRAMS` is.

    Raises:
        ServerMissing: it is not on PATH; the message has the line that installs it.
    """
    program = _program(name)
    found = _look_for(program)
    if found is None:
        raise ServerMissing(f"{program.executable} is not installed: {program.install_line}")
    return found


def install(names: Iterable[str]) -> list[str]:
    """Install what is missing of these programs with the system's package manager; the names that were installed.

    Does something only on a Debian-like machine and as root: nobody's laptop is changed behind their back. Programs
    from another release are unpacked into the user's cache folder, which needs no root.

    Raises:
        ServerMissing: something is missing and may not be installed from here, or the installation failed.
    """
    missing = [name for name in names if _look_for(_program(name)) is None]
    old = [name for name in missing if _program(name).suite and _has_apt()]
    for name in old:
        _unpack(_program(name))
    present = [name for name in missing if name not in old]
    if present:
        if not (_has_apt() and _is_root()):
            find(present[0])
        _apt_install([package for name in present for package in _program(name).debian.split()])
    for name in missing:
        find(name)
    return missing


def _program(name: str) -> Program:
    try:
        return PROGRAMS[name]
    except KeyError:
        raise ConfigurationError(f"no such program: {name!r}; there are {', '.join(PROGRAMS)}") from None


def _look_for(program: Program) -> Path | None:
    found = shutil.which(program.executable)
    if found is not None:
        return Path(found)
    if program.suite:
        found = shutil.which(program.executable, path=unpacked.folder(program.debian) / "usr" / "bin")
        return None if found is None else Path(found)
    lying = [path for pattern in program.places for path in sorted(Path("/").glob(pattern.lstrip("/")))]
    return lying[-1] if lying else None


def _unpack(program: Program) -> None:
    try:
        unpacked.unpack(program.debian, program.suite)
    except unpacked.Unobtainable as error:
        raise ServerMissing(f"{program.executable} could not be had from Debian {program.suite}: {error}") from error


def _has_apt() -> bool:
    return shutil.which("apt-get") is not None and shutil.which("dpkg") is not None


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _apt_install(packages: list[str]) -> None:
    try:
        apt.install(packages)
    except apt.Failed as failed:
        raise ServerMissing(str(failed)) from failed
