"""Three beats are killed, stopped, ended and cut off from the store at random: what ran is compared with what was due.

    python tests/support/beat_chaos.py [--seconds 300] [--seed N] [--mode elected|active] [redis postgresql etcd ...]

Prints a line of JSON for each store. Exit status 1 where a fire is missing, or was run twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import (
    ConsulServer,
    EtcdServer,
    MariaDBServer,
    PostgreSQLServer,
    RedisServer,
    ZooKeeperServer,
)

SUPPORT = Path(__file__).resolve().parent
SERVERS: dict[str, Callable[[], Any]] = {
    "consul": ConsulServer, "etcd": EtcdServer, "mariadb": MariaDBServer, "postgresql": PostgreSQLServer,
    "redis": RedisServer, "zookeeper": ZooKeeperServer,
}  # fmt: skip
ENTRIES = ("a", "b", "c", "d", "e")
SECOND = 1_000_000
TTL = 3.0
PATIENCE = 90.0


class Beat:
    """One of the beats, which reaches the store through a proxy of its own."""

    def __init__(self, number: int, chaos: Chaos) -> None:
        self.number = number
        self._chaos = chaos
        self.proxy = chaos.stack.enter_context(Proxy(chaos.server.address))
        self.stopped = False
        self.start()

    def start(self) -> None:
        log = self._chaos.folder / f"beat{self.number}.log"
        url = self.proxy.through(self._chaos.server.url)
        self.process = self._chaos.celery(url, "beat", "-S", "locksmith", "--pidfile", "", "--logfile", str(log))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.start()

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.start()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.stopped = False
        self.proxy.heal()


class Chaos:
    """One run on one store."""

    def __init__(self, kind: str, seed: int, mode: str, stack: ExitStack) -> None:
        self.stack = stack
        self.dice = random.Random(seed)
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="locksmith-beat-")))
        self.server: Any = stack.enter_context(SERVERS[kind]())
        self._broker = stack.enter_context(RedisServer())
        self._conf = {"locksmith_beat_ttl": TTL, "locksmith_beat_mode": mode}
        self.journal = self.folder / "journal"
        self.journal.touch()
        self.done: Counter[str] = Counter()
        worker = ("worker", "-P", "threads", "-c", "4", "--without-gossip", "--without-mingle")
        self.celery(self.server.url, *worker, "--logfile", str(self.folder / "worker.log"))
        self.beats = [Beat(number, self) for number in range(3)]

    def celery(self, store: str, *words: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ, "BEAT_BROKER": self._broker.url, "BEAT_QUEUE": "fires", "BEAT_ENTRIES": json.dumps(ENTRIES),
            "BEAT_CONF": json.dumps({**self._conf, "locksmith_url": store}), "BEAT_JOURNAL": str(self.journal),
            "PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)]),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "beatcrew", *words, "-l", "INFO"],
            env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=(self.folder / "stderr").open("ab"),
        )  # fmt: skip
        self.stack.callback(_end, process)
        return process

    def runs(self) -> list[tuple[str, int, int]]:
        """Entry, moment and lateness of each run, in microseconds."""
        lines = (line.split() for line in self.journal.read_text().splitlines())
        return [(entry, int(moment), int(late)) for entry, moment, late in lines]

    def rage(self, seconds: float) -> None:
        """Do something to one of the beats again and again; what is done to it ends at random, too."""
        self._wait(lambda: bool(self.runs()), "the first fire")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            beat = self.dice.choice(self.beats)
            what = self.dice.choice(("kill", "end", "stop", "cut off", "black hole", "go on", "go on"))
            self.done[what] += 1
            if what == "kill":
                beat.kill()
            elif what == "end" and not beat.stopped:
                beat.end()
            elif what == "stop":
                beat.stop()
            elif what == "cut off":
                beat.proxy.refuse()
                beat.proxy.drop()
            elif what == "black hole":
                beat.proxy.black_hole()
            elif what == "go on":
                beat.go_on()
            time.sleep(self.dice.uniform(0.1, 1.5 * TTL))
        for beat in self.beats:
            beat.go_on()

    def settle(self) -> int:
        """Wait until what was due by now has run, or will not: what an active beat had claimed comes a ttl later."""
        now = time.time_ns() // 1000
        self._wait(lambda: all(max(self._moments(entry), default=0) >= now for entry in ENTRIES), "the last fires")
        later = now + int(3 * TTL * SECOND)
        self._wait(
            lambda: not self.judge(now)["missing"] or time.time_ns() // 1000 > later, "what was claimed by the last"
        )
        return now

    def judge(self, until: int) -> dict[str, Any]:
        """What is missing, and what ran twice."""
        missing: list[tuple[str, int]] = []
        twice: list[tuple[str, int]] = []
        due = 0
        for entry in ENTRIES:
            runs = Counter(self._moments(entry))
            wanted = range(min(runs), until + 1, SECOND)
            due += len(wanted)
            missing += [(entry, moment) for moment in wanted if moment not in runs]
            twice += [(entry, moment) for moment, times in runs.items() if times > 1]
        late = sorted(late for _, _, late in self.runs())
        dropped = (self.folder / "worker.log").read_text().count("is dropped: another copy")
        return {
            "due": due, "missing": missing, "twice": twice, "second_copies_dropped": dropped, "done": dict(self.done),
            "late_p50": late[len(late) // 2] / SECOND, "late_max": late[-1] / SECOND,
        }  # fmt: skip

    def _moments(self, entry: str) -> list[int]:
        return [moment for name, moment, _ in self.runs() if name == entry]

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > until:
                logs = [path.read_text()[-3000:] for path in sorted(self.folder.glob("*.log"))]
                raise SystemExit("\n".join([f"{what} did not come within {PATIENCE:g} s", *logs]))
            time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--mode", choices=["elected", "active"], default="elected")
    parser.add_argument("stores", nargs="*", default=["postgresql", "redis", "etcd"])
    told = parser.parse_args()
    good = True
    for kind in told.stores or ["postgresql", "redis", "etcd"]:
        with ExitStack() as stack:
            chaos = Chaos(kind, told.seed, told.mode, stack)
            chaos.rage(told.seconds)
            found = chaos.judge(chaos.settle())
            good = good and not found["missing"] and not found["twice"]
        print(
            json.dumps({"store": kind, "mode": told.mode, "seed": told.seed, "seconds": told.seconds, **found}),
            flush=True,
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
