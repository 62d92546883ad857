"""What `diagnose` looks at: whatever could make this file break a promise."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from locksmith.store import Finding
from locksmith_sql.sqlite.connection import Link
from locksmith_sql.sqlite.mounts import kind_of

_LOW: Final = 64 * 1024 * 1024


def examine(link: Link, path: str) -> list[Finding]:
    """The findings about an open file."""
    return [*_sqlite(link), _clock(link), _file_system(path), _permissions(path), _space(path)]


def _sqlite(link: Link) -> Iterator[Finding]:
    yield Finding("ok", f"SQLite {sqlite3.sqlite_version}")
    mode = link.cursor.execute("PRAGMA journal_mode").fetchone()[0]
    if mode == "wal":
        yield Finding("ok", "the journal mode is WAL")
    else:
        yield Finding("error", f"the journal mode is {mode}", "let nobody change it: restart whoever uses this file")
    sound = link.cursor.execute("PRAGMA quick_check(1)").fetchone()[0]
    if sound == "ok":
        yield Finding("ok", "the file is sound")
    else:
        yield Finding("error", f"the file is damaged: {sound}", "move it away; locks begin anew in a fresh one")


def _clock(link: Link) -> Finding:
    if link.clock.era:
        return Finding("ok", "leases are judged by the time since boot, which nobody can set")
    return Finding(
        "warning",
        "no boot id can be read here, so leases are judged by the wall clock",
        "do not set the clock while leases are held; in a container, leave /proc/sys/kernel/random/boot_id readable",
    )


def _file_system(path: str) -> Finding:
    kind = kind_of(path)
    if kind is None:
        return Finding("warning", "the kind of file system cannot be told", "make sure that it is a local one")
    if kind in {"virtiofs", "fuse", "fuseblk", "overlay"}:
        return Finding(
            "warning",
            f"the file is on {kind}",
            "let no process outside this machine, or outside this container, use the same file",
        )
    return Finding("ok", f"the file is on {kind}")


def _permissions(path: str) -> Finding:
    mode = Path(path).stat().st_mode
    directory = Path(path).parent
    if not os.access(directory, os.W_OK):
        return Finding("error", f"{directory} may not be written to", "SQLite keeps its log beside the file: allow it")
    if mode & stat.S_IWOTH:
        return Finding("warning", "everybody on this machine may write to the file", "chmod o-w, unless that is meant")
    return Finding("ok", f"the file's permissions are {stat.filemode(mode)}")


def _space(path: str) -> Finding:
    free = shutil.disk_usage(Path(path).parent).free
    if free < _LOW:
        return Finding("error", f"only {free // 1024} KiB are free on the disk", "free some space")
    return Finding("ok", f"{free // (1024 * 1024)} MiB are free on the disk")
