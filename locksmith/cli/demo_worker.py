"""One worker of the demo, in a process of its own: `python -m locksmith.cli.demo_worker`.

Its orders arrive as one line of JSON on stdin: not as arguments, because the store's URL may hold a password and
everybody can read process titles. stdin then stays open for as long as the demo lives, and its end is ours.
What happens goes to stdout, one line of JSON each.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from locksmith.adapters.run_once import current_lease, run_once
from locksmith.cli.demo_ledger import COMPLETED, STARTED, Ledger, StaleToken
from locksmith.client import Client, connect
from locksmith.errors import LeaseLost, LocksmithError, StoreUnavailable

REMEMBERED: Final = 600.0
"""Seconds the store remembers that a job was done: longer than any demo."""
STEPS: Final = 4
"""A job is work in so many steps; it looks at its lease between them."""
FATAL_STEP: Final = 3
"""The step in which a worker is killed; the one before it has been reported by then."""
FATAL_SECONDS: Final = 30.0
"""How long that step lasts at most: a busy machine may take seconds to bring the news and the signal."""
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Orders:
    """What the demo tells a worker."""

    store: str
    namespace: str
    run: str
    worker: int
    jobs: list[str]
    seed: int
    ttl: float
    work: float
    ledger: str
    fatal: str
    """The job in whose first start a worker is killed: one of its steps lasts until that has happened."""

    def as_line(self) -> bytes:
        """For the worker's stdin."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"


def work_through(client: Client, orders: Orders, say: Callable[..., None]) -> None:
    """Go through all the jobs, in an order of our own, and run each unless somebody has, or is about to."""
    ledger = Ledger(Path(orders.ledger))

    @run_once("{run}:{job}", ttl=orders.ttl, once_per=REMEMBERED, on_conflict="wait", client=client)
    def process(run: str, job: str) -> None:
        lease = current_lease()
        assert lease is not None  # noqa: S101 - for the type checker: run_once holds one
        ledger.write(STARTED, job, lease.token, orders.worker)
        say("started", job=job, token=lease.token)
        for step in range(1, STEPS + 1):
            time.sleep(orders.work / STEPS)
            if step == FATAL_STEP and job == orders.fatal and ledger.count(STARTED)[job] == 1:
                time.sleep(FATAL_SECONDS)
            lease.check()
            say("step", job=job, step=step)
        ledger.write(COMPLETED, job, lease.token, orders.worker)
        say("completed", job=job, token=lease.token)

    order = list(orders.jobs)
    random.Random(f"{orders.seed}/{orders.worker}").shuffle(order)
    for job in order:
        say("asks", job=job)
        _insist(partial(process, orders.run, job), say, job)
        say("knows", job=job)


def _insist(attempt: Callable[[], object], say: Callable[..., None], job: str) -> None:
    """Until it is known to be done: whoever loses a lease, or does not reach the store, asks again."""
    for _ in range(_TRIES):
        try:
            attempt()
            return
        except (LeaseLost, StaleToken) as error:
            say("lost", job=job, why=str(error))
        except StoreUnavailable as error:
            say("trouble", job=job, why=str(error))
            time.sleep(0.2)
    attempt()


def _end_with_the_demo() -> None:
    # However the demo ends, SIGKILL included, the pipe's other end is closed by the kernel.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _say(event: str, **facts: Any) -> None:
    # One write each, so that a worker which is killed leaves whole lines only. A closed pipe: the demo is over.
    try:
        os.write(1, json.dumps({"event": event, **facts}).encode("ascii") + b"\n")
    except BrokenPipeError:
        os._exit(1)


def main() -> int:
    """Take the orders, do the work, say how it went."""
    line = b""
    while not line.endswith(b"\n"):
        if not (got := os.read(0, 65536)):
            return 1
        line += got
    orders = Orders(**json.loads(line))
    threading.Thread(target=_end_with_the_demo, name="demo-end", daemon=True).start()
    try:
        with connect(orders.store, namespace=orders.namespace, ttl=orders.ttl, waiter_ttl=orders.ttl) as client:
            _say("ready")
            work_through(client, orders, _say)
    except LocksmithError as error:
        _say("failed", why=f"{type(error).__name__}: {error}")
        return 2
    _say("through")
    return 0


if __name__ == "__main__":
    sys.exit(main())
