"""What it costs to wait and to hold: requests, threads and CPU while nothing changes."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import asdict, dataclass

import locksmith
from locksmith_bench.contenders import lineup

_PATIENCE = 5.0
"""Seconds until all of them wait; where a store has no line they cannot be counted."""


@dataclass(frozen=True)
class Standing:
    """What `count` waiters, or held leases, of one client cost over `seconds`."""

    what: str
    count: int
    seconds: float
    requests: int | None
    """What the server counted (on Redis: script calls); None where the store is no server."""
    connections: int | None
    threads: int
    cpu_ms: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def waiting(url: str, count: int, seconds: float) -> Standing:
    """`count` threads of one client wait for one held name."""
    name = f"bench-{secrets.token_hex(6)}"
    with locksmith.connect(url) as holder, locksmith.connect(url) as client:
        before = threading.active_count()
        lease = holder.lock(name).acquire()
        threads = [threading.Thread(target=_wait, args=(client, name)) for _ in range(count)]
        for thread in threads:
            thread.start()
        patience = time.monotonic() + _PATIENCE
        while len(holder.inspect(name).waiters) < count and time.monotonic() < patience:
            time.sleep(0.02)
        result = _measure(url, "waiters", count, seconds, threads_before=before + count)
        lease.release()
        for thread in threads:
            thread.join()
    return result


def holding(url: str, count: int, seconds: float, ttl: float) -> Standing:
    """One client holds `count` leases of `ttl` seconds."""
    before = threading.active_count()
    with locksmith.connect(url, ttl=ttl) as client:
        leases = [client.lock(f"bench-{secrets.token_hex(6)}").acquire() for _ in range(count)]
        result = _measure(url, f"leases of {ttl:g} s", count, seconds, threads_before=before)
        for lease in leases:
            lease.release()
    return result


def _wait(client: locksmith.Client, name: str) -> None:
    with client.lock(name).acquire():
        pass


def _measure(url: str, what: str, count: int, seconds: float, *, threads_before: int) -> Standing:
    counter = lineup(url).counter
    asked = counter(url) if counter else None
    before = asked() if asked else (0, 0)
    cpu = time.process_time()
    time.sleep(seconds)
    cpu = time.process_time() - cpu
    after = asked() if asked else (0, 0)
    threads = threading.active_count() - threads_before
    return Standing(
        what,
        count,
        seconds,
        after[0] - before[0] if asked else None,
        after[1] if asked else None,
        threads,
        cpu * 1000,
    )
