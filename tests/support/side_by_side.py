"""Several commands at the same time, for tests that mostly wait: `python side_by_side.py -- pytest a -- pytest b`.

What each one writes is shown when it has ended, in one piece. The exit status is the first one that is not 0.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def commands(words: list[str]) -> list[list[str]]:
    """The commands between the double dashes."""
    found: list[list[str]] = []
    for word in words:
        if word == "--":
            found.append([])
        else:
            found[-1].append(word)
    return found


def run(command: list[str]) -> int:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
    )
    shown = f"$ {' '.join(command)}\n".encode() + done.stdout
    sys.stdout.buffer.write(shown)  # in one call: others write too
    sys.stdout.buffer.flush()
    return done.returncode


def main(words: list[str]) -> int:
    wanted = commands(words)
    with ThreadPoolExecutor(len(wanted)) as pool:
        return next((status for status in pool.map(run, wanted) if status), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
