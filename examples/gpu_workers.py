"""Workers on many hosts share four GPUs: a semaphore hands them out, first come, first served.

    LOCKSMITH_URL=redis://locks:6379/0 python gpu_workers.py

A job that needs two takes two at once, so that two such jobs cannot each take one and wait for the other for ever.
Workers that die give their GPUs back after `ttl`.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import locksmith

GPUS = 4
JOBS = [("train", 2), ("embed", 1), ("train", 2), ("embed", 1), ("index", 1), ("train", 2)]


class Meter:
    """How many GPUs are in use in this process."""

    def __init__(self) -> None:
        self.used = self.most = 0
        self._lock = threading.Lock()

    def add(self, gpus: int) -> None:
        """Count them in, or out where negative."""
        with self._lock:
            self.used += gpus
            self.most = max(self.most, self.used)


def work(client: locksmith.Client, job: str, gpus: int, meter: Meter) -> None:
    """Wait for the GPUs, use them, give them back."""
    with client.semaphore("gpu", limit=GPUS).acquire(permits=gpus, wait=60, note=job) as lease:
        meter.add(gpus)
        time.sleep(0.1)  # the job; a long one calls lease.check() now and then
        lease.check()
        meter.add(-gpus)


def main() -> int:
    """All jobs at once, on as many GPUs as there are."""
    meter = Meter()
    with locksmith.connect(os.environ["LOCKSMITH_URL"], ttl=30) as client:
        workers = [threading.Thread(target=work, args=(client, job, gpus, meter)) for job, gpus in JOBS]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print(f"{len(JOBS)} jobs done, at most {meter.most} of {GPUS} GPUs in use at once")
    return 0 if meter.most <= GPUS else 1


if __name__ == "__main__":
    sys.exit(main())
