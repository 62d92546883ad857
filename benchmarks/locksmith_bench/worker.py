"""One process of a contended run: takes and gives back a name, and prints when (CLOCK_MONOTONIC, nanoseconds)."""

from __future__ import annotations

import json
import sys
import time

from locksmith_bench.contenders import lineup


def main(contender: str, name: str, seconds: float) -> None:
    """Wait for the word to go, run for `seconds`, print [taken, given, waited] of every turn."""
    url = sys.stdin.readline().strip()
    turns = []
    with lineup(url).rivals[contender](url, name) as take:
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
