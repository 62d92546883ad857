"""Packages of a Debian-like system: installed in one call, and without a server that starts because of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SECONDS: Final = 600
# https://manpages.debian.org/bookworm/init-system-helpers/invoke-rc.d.8.en.html: 101 forbids the action.
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_FORBID: Final = "#!/bin/sh\n# packages are being installed for tests, which start servers of their own\nexit 101\n"
# PostgreSQL's package creates a database cluster for the whole machine unless its configuration says no beforehand:
# see "create_main_cluster" in pg_createcluster(1).
_CLUSTERS: Final = Path("/etc/postgresql-common/createcluster.conf")
_NO_CLUSTER: Final = "create_main_cluster = false\n"


class Failed(Exception):
    """apt-get failed: its output says why."""


def install(packages: Sequence[str]) -> None:
    """Install these packages, as root. Raises Failed."""
    # Two of these may run at once, or a daily job may: wait for the package manager's lock rather than fail.
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
    # A fresh machine has no package lists at all. Where one of many lists cannot be refreshed, the rest may do.
    _run([*apt, "update"])
    command = [*apt, "install", "--yes", "--no-install-recommends", *packages]
    if any(package.startswith("postgresql") for package in packages):
        _create_no_cluster()
    with _nothing_is_started():
        if status := _run(command):
            raise Failed(f"`{' '.join(command)}` failed with status {status}: its output says why")


def _create_no_cluster() -> None:
    if not _CLUSTERS.exists():
        _CLUSTERS.parent.mkdir(exist_ok=True)
        _CLUSTERS.write_text(_NO_CLUSTER, "utf-8")


@contextmanager
def _nothing_is_started() -> Iterator[None]:
    """Forbid packages to start what they bring. Whatever policy the machine has already stays."""
    try:
        with _POLICY.open("x", encoding="utf-8") as file:
            file.write(_FORBID)
        _POLICY.chmod(0o755)
    except FileExistsError:
        yield
        return
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _run(command: list[str]) -> int:
    # RUNLEVEL and SYSTEMD_OFFLINE are for the case that another one of these takes its policy away under us.
    # What is configured already is not asked about: it stays.
    quiet = {
        "DEBIAN_FRONTEND": "noninteractive",
        "UCF_FORCE_CONFFOLD": "1",
        "RUNLEVEL": "1",
        "SYSTEMD_OFFLINE": "1",
    }
    done = subprocess.run(command, env=os.environ | quiet, check=False, timeout=SECONDS, stdin=subprocess.DEVNULL)
    return done.returncode
