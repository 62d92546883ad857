"""Programs from another Debian release, unpacked into a cache folder of the user: no package of the system changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

SECONDS: Final = 600
_SOURCES: Final = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
_FIELD: Final = re.compile(r"^(Suites|Components):.*\n?(?:[ \t].*\n?)*", re.MULTILINE)
_LINE: Final = re.compile(
    r"^deb\s+(?P<where>(?:\[[^]]*\]\s+)?\S+)\s+(?P<suite>\S+)\s+(?P<components>.*)$", re.MULTILINE
)


class Unobtainable(Exception):
    """The package could not be had: the message says why."""


def folder(package: str) -> Path:
    """Where a package of another release is unpacked."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "locksmith" / package


def unpack(package: str, suite: str) -> Path:
    """Download a package of `suite` from where this machine gets its own packages, and unpack it; its folder.

    Raises Unobtainable.
    """
    place = folder(package)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{package}-") as name:
        scratch = Path(name)
        _apt(scratch, suite, "update")
        _apt(scratch, suite, "download", package)
        found = next(scratch.glob(f"{package}_*.deb"), None)
        if found is None:
            raise Unobtainable(f"apt-get downloaded no {package}")
        _run(["dpkg", "-x", str(found), str(scratch / "unpacked")], scratch)
        if place.exists():
            shutil.rmtree(place)
        try:
            (scratch / "unpacked").rename(place)
        except OSError:
            if not place.is_dir():  # else another process was faster: theirs is the same
                raise
    return place


def _apt(scratch: Path, suite: str, *words: str) -> None:
    sources = scratch / "suite.sources"
    if not any(scratch.glob("suite.*")):
        for path in ("lists/partial", "cache/archives/partial"):
            (scratch / path).mkdir(parents=True)
        kind, text = _entry(suite)
        (scratch / f"suite.{kind}").write_text(text, "utf-8")
    sources = next(scratch.glob("suite.*"))
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": scratch / "lists",
        "Dir::Cache": scratch / "cache",
        "Acquire::Retries": 3,
        # A folder of ours is closed to apt's own user.
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
    }
    said = [word for name, value in options.items() if value != "" for word in ("-o", f"{name}={value}")]
    _run(["apt-get", *said, *words], scratch)


def _entry(suite: str) -> tuple[str, str]:
    """This machine's own Debian entry, of another suite: the kind of file, and what is in it."""
    codename = _codename()
    for path in _source_files():
        text = path.read_text("utf-8", "replace")
        changed = _deb822(text, codename, suite) if path.suffix == ".sources" else _one_line(text, codename, suite)
        if changed is not None:
            return path.suffix.lstrip("."), changed
    raise Unobtainable(f"no source of apt's is one of Debian {codename}")


def _source_files() -> list[Path]:
    one, many = _SOURCES
    files = [one] if one.is_file() else []
    return files + sorted(path for path in many.glob("*") if path.suffix in (".list", ".sources"))


def _deb822(text: str, codename: str, suite: str) -> str | None:
    for stanza in re.split(r"\n\s*\n", text):
        fields = {found[1]: found[0].partition(":")[2].split() for found in _FIELD.finditer(stanza)}
        if codename in fields.get("Suites", []) and "main" in fields.get("Components", []):
            said = f"Suites: {suite}\nComponents: main\n"
            return _FIELD.sub("", stanza).strip() + "\n" + said
    return None


def _one_line(text: str, codename: str, suite: str) -> str | None:
    for found in _LINE.finditer(text):
        if found["suite"] == codename and "main" in found["components"].split():
            return f"deb {found['where']} {suite} main\n"
    return None


def _codename() -> str:
    for line in Path("/etc/os-release").read_text("utf-8").splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise Unobtainable("this machine does not say which release of Debian it runs")


def _run(command: list[str], scratch: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=scratch,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unobtainable(f"`{command[0]}` failed: {error}") from error
    if done.returncode:
        raise Unobtainable(f"`{' '.join(command)}` failed with status {done.returncode}:\n{done.stderr[-2000:]}")
