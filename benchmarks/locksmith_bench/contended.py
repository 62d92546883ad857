"""Several processes and one lock: how fast it changes hands, and how fairly."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise

from locksmith_bench.stats import jain, middle, percentile


@dataclass(frozen=True)
class Contention:
    """What came of one contended run."""

    contender: str
    processes: int
    acquisitions_per_second: float
    handoff_p50_ms: float
    handoff_p99_ms: float
    to_another: float
    jain: float
    worst_wait_ms: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def measure(url: str, contender: str, processes: int, seconds: float) -> Contention:
    """Let `processes` workers take and give back one name as fast as they can, for `seconds`.

    A hand-off is the time from the call of release in one process to the return of acquire in *another*.
    """
    name = f"bench-{secrets.token_hex(6)}"
    command = [sys.executable, "-m", "locksmith_bench.worker", contender, name, str(seconds)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    try:
        for worker in workers:
            # The URL may hold a password: not on a command line that every process can read.
            _tell(worker, url)
            assert worker.stdout is not None
            assert worker.stdout.readline().strip() == "ready"
        for worker in workers:
            _tell(worker, "go")
        turns = []
        for number, worker in enumerate(workers):
            out, _ = worker.communicate(timeout=seconds + 60)
            turns += [(taken, given, waited, number) for taken, given, waited in json.loads(out)]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    return _judge(contender, processes, seconds, sorted(turns))


def _tell(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(line + "\n")
    worker.stdin.flush()


def _judge(contender: str, processes: int, seconds: float, turns: list[tuple[int, int, int, int]]) -> Contention:
    handoffs = [(after[0] - before[1]) / 1e6 for before, after in pairwise(turns) if after[3] != before[3]]
    counts = [sum(1 for turn in turns if turn[3] == number) for number in range(processes)]
    return Contention(
        contender,
        processes,
        len(turns) / seconds,
        middle(handoffs),
        percentile(handoffs, 0.99),
        len(handoffs) / max(1, len(turns) - 1),
        jain(counts),
        max((turn[2] for turn in turns), default=0) / 1e6,
    )
