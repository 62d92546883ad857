"""On what kind of file system a file is, where Linux can tell.

SQLite needs locks and a shared memory map that all processes see: a local file system. Network file systems, and those
that pass files between kernels, do not give it that (https://www.sqlite.org/wal.html, section 1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_TABLE: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "ncpfs", "coda",
     "orangefs", "gfs2", "ocfs2", "vboxsf", "prl_fs", "davfs", "fuse.davfs2", "fuse.sshfs", "fuse.glusterfs",
     "fuse.ceph", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.goofys", "fuse.juicefs", "fuse.mount-s3",
     "fuse.smbnetfs", "fuse.blobfuse2", "fuse.vmhgfs-fuse"}
)  # fmt: skip


def kind_of(path: str, table: Path = _TABLE) -> str | None:
    """The type of the file system that a path is on ("ext4", "nfs4"), or None where that cannot be told."""
    try:
        lines = table.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    real = str(Path(path).resolve())
    best, kind = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 5 or not rest:
            continue
        point = fields[4].replace(r"\040", " ").replace(r"\011", "\t").replace(r"\134", "\\")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one is seen.
        if inside and len(point) >= best:
            best, kind = len(point), rest[0]
    return kind


def is_network(kind: str | None) -> bool:
    """Whether SQLite's locks cannot be trusted there."""
    return kind in _NETWORK
