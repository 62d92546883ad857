"""The clock that SQLite leases are judged by: this host's, since the store is a file of this host.

SQLite itself only knows the wall clock, which jumps: a jump forward would end leases that are held. So every statement
is given CLOCK_BOOTTIME, which no one can set and which counts suspend, together with its *era*: a hash of the boot id.
Moments of another era mean nothing here. Whoever touches a name of another era therefore arms what is in it anew, in
full, from now (see ledger.py): after a reboot, whose holders are all dead, a lease lives on for at most its ttl after
the name is first touched; and should two kernels ever share one file, neither ends a lease of the other's too early.

A moment that is older than the statement which carries it (the process was stopped in between) is harmless: it expires
less than it could, and the lease it grants ends with the deadline that its holder counts from an even earlier moment.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_OFFSETS: Final = Path("/proc/self/timens_offsets")

MICROS: Final = 1_000_000
# 142,000 years: what is added to now must fit into 64 bits.
_LONGEST: Final = 1 << 62


class HostClock:
    """Microseconds since the boot of this host, the era they belong to, and the wall clock beside them."""

    def __init__(self) -> None:
        boot_id = _read(_BOOT_ID).strip()
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        if not boot_id or boottime is None:
            # No boot id (a masked /proc, macOS): the wall clock is what all processes of the host share.
            self.era = 0
            self.now = self.wall
            return
        self.era = int.from_bytes(hashlib.sha256(boot_id.encode()).digest()[:7], "big")
        # A container may live in a time namespace, where CLOCK_BOOTTIME is shifted: shift it back.
        shift = _boottime_offset() // 1000
        clock_gettime_ns = time.clock_gettime_ns
        self.now = lambda: clock_gettime_ns(boottime) // 1000 - shift

    @staticmethod
    def wall() -> int:
        """Microseconds since 1970: what tokens and versions grow by, and how long idle rows are kept."""
        return time.time_ns() // 1000


def _boottime_offset() -> int:
    for line in _read(_OFFSETS).splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[0] in {"boottime", "7"}:
            return int(fields[1]) * 1_000_000_000 + int(fields[2])
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def micros(seconds: float) -> int:
    """Seconds as whole microseconds."""
    return min(int(seconds * MICROS), _LONGEST)
