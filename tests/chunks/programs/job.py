"""A process that works on a chunked job: python job.py URL NAME LOG [KILL_AT]. Run by test_processes.py.

Appends "begin NUMBER START END TOKEN PID" and "end ..." to LOG around each chunk. At chunk KILL_AT it kills itself in
the middle; at chunk "stop" it says "stopping", and the test stops it there.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import locksmith
from locksmith.chunks import Chunk, ints

url, name, log, *more = sys.argv[1:]
kill_at = int(more[0]) if more else -1
stop_at = int(more[1]) if len(more) > 1 else -1


def note(what: str, chunk: Chunk[int]) -> None:
    # One write of a short line to a file opened for appending: lines of several processes do not mix.
    with Path(log).open("ab", buffering=0) as file:
        file.write(f"{what} {chunk.number} {chunk.start} {chunk.end} {chunk.token} {os.getpid()}\n".encode())


@locksmith.chunked("{name}", over=ints(0, 200, size=5), ttl=2, store=url)
def work(name: str, chunk: Chunk[int]) -> None:
    note("begin", chunk)
    if chunk.number >= kill_at >= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if chunk.number >= stop_at >= 0:
        print("stopping", flush=True)
        sys.stdin.readline()
    note("end", chunk)


print("ready", flush=True)
sys.stdin.readline()
progress = work(name)
print(f"{progress.state} {progress.done}", flush=True)
