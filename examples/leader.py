"""One of many processes leads, whoever that is at the moment; the others stand by.

    LOCKSMITH_URL=redis://locks:6379/0 python leader.py

Start it on as many machines as you like. Ctrl-C resigns at once, and the next in line leads; a machine that dies is
succeeded when the ttl has passed. Here two of them run in one process, for a short while.
"""

from __future__ import annotations

import os
import sys
import threading

import locksmith

ROUNDS = 3
"""How long each leads before it has done enough."""


def stand(url: str, who: str, led: list[tuple[int, str]]) -> None:
    """Stand for election, and once elected do what only one shall do."""

    def lead(leadership: locksmith.Leadership) -> None:
        for number in range(ROUNDS):
            leadership.check()  # raises as soon as leadership cannot be trusted any more; `run` then stands again
            leadership.proclaim({"who": who, "round": number})
            led.append((leadership.term, who))

    with locksmith.connect(url) as client:
        client.election("scheduler", ttl=10).run(lead, value={"who": who})


def main() -> int:
    """Two candidates, one after the other."""
    led: list[tuple[int, str]] = []
    candidates = [
        threading.Thread(target=stand, args=(os.environ["LOCKSMITH_URL"], who, led)) for who in ("one", "two")
    ]
    for candidate in candidates:
        candidate.start()
    for candidate in candidates:
        candidate.join()
    terms = [term for term, _ in led]
    print(f"{len(set(terms))} terms, one after the other: {terms == sorted(terms)}")
    return 0 if terms == sorted(terms) and len(led) == 2 * ROUNDS else 1


if __name__ == "__main__":
    sys.exit(main())
