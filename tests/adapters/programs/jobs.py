"""A process that works through jobs under run_once, as a user's worker would. Run by test_processes.py.

    python jobs.py URL PREFIX JOBS SETTINGS LOG

Says "ready", then waits for a line before it begins. Appends "start JOB" and "done JOB" to LOG. A job named
"hold..." says "holding", and goes on when it reads a line; at the end it says what became of each job.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import locksmith
from locksmith import run_once

url, prefix, jobs, settings, log = sys.argv[1:]
asynchronous = json.loads(settings).pop("asynchronous", False)
options = {name: value for name, value in json.loads(settings).items() if name != "asynchronous"}


def note(what: str, job: str) -> None:
    # One write of a short line to a file opened for appending: lines of several processes do not mix.
    with Path(log).open("ab", buffering=0) as file:
        file.write(f"{what} {job} {os.getpid()}\n".encode())


def say(what: str) -> None:
    print(what, flush=True)


def body(job: str) -> str:
    note("start", job)
    if job.startswith("hold"):
        say("holding")
        sys.stdin.readline()
    note("done", job)
    return f"{job} by {os.getpid()}"


@run_once(prefix + ":{job}", store=url, **options)
def work(job: str) -> str:
    return body(job)


@run_once(prefix + ":{job}", store=url, **options)
async def work_async(job: str) -> str:
    return body(job)


def outcome(result: object) -> str:
    return "SKIPPED" if result is locksmith.SKIPPED else str(result)


def attempt(job: str) -> str:
    try:
        return outcome(work(job))
    except locksmith.LocksmithError as error:
        return f"{type(error).__name__} {getattr(error, 'result', None)}"


async def attempt_async() -> None:
    for job in jobs.split(","):
        say(outcome(await work_async(job)))


say("ready")
sys.stdin.readline()
if asynchronous:
    import asyncio

    asyncio.run(attempt_async())
else:
    for job in jobs.split(","):
        say(attempt(job))
