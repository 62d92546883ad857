"""One process of a contended run: takes and gives back a name, and prints when (CLOCK_MONOTONIC, nanoseconds)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import locksmith

Give: TypeAlias = Callable[[], object]
Take: TypeAlias = Callable[[], Give]


@contextmanager
def _locksmith(url: str, name: str) -> Iterator[Take]:
    with locksmith.connect(url) as client:
        lock = client.lock(name)
        yield lambda: lock.acquire().release


@contextmanager
def _redis_py(url: str, name: str) -> Iterator[Take]:
    import redis

    client: Any = redis.Redis.from_url(url)

    def take() -> Give:
        lock = client.lock(name, timeout=30)
        lock.acquire()
        return cast(Give, lock.release)

    yield take
    client.close()


CONTENDERS = {"locksmith": _locksmith, "redis-py Lock": _redis_py}


def main(contender: str, name: str, seconds: float) -> None:
    """Wait for the word to go, run for `seconds`, print [taken, given, waited] of every turn."""
    url = sys.stdin.readline().strip()
    turns = []
    with CONTENDERS[contender](url, name) as take:
        take()()  # connections and scripts are warm before the word to go
        print("ready", flush=True)
        sys.stdin.readline()
        clock = time.monotonic_ns
        end = clock() + int(seconds * 1e9)
        while (asked := clock()) < end:
            give = take()
            taken = clock()
            given = clock()
            give()
            turns.append((taken, given, taken - asked))
    print(json.dumps(turns))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
