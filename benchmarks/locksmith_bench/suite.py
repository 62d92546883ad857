"""One run over all stores: what is measured, in which order, and how it is shown."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.util import find_spec

from locksmith import redact
from locksmith_bench import contended, contenders, goals, report, standing, uncontended, uncontended_aio
from locksmith_bench.contenders import ours


def run(urls: list[str], *, quick: bool, as_json: bool) -> int:
    """Measure every store in turn. Progress and tables go to the terminal, the JSON to the last line."""
    show = report.Screen(quiet=as_json)
    result = {"machine": machine(), "quick": quick, "stores": [_store(url, quick, show) for url in urls]}
    if as_json:
        print(json.dumps(result))
    return 0


def run_goals(urls: list[str], *, quick: bool, as_json: bool) -> int:
    """Measure what has a goal, on every store in turn, and print one table; as JSON, one object on the last line."""
    effort = goals.QUICK if quick else goals.FULL
    # The table is the output; what is being measured is for whoever waits for it.
    show = report.Screen(quiet=as_json, stderr=True)
    rows = []
    for url in urls:
        show.title(redact.url(url))
        rows.append(goals.measure(url, effort, show.step))
    if as_json:
        print(json.dumps({"machine": machine(), "quick": quick, "stores": [row.as_dict() for row in rows]}))
    else:
        print(goals.table(rows))
    return 0


def machine() -> dict[str, object]:
    """Where this was measured."""
    return {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}


def _store(url: str, quick: bool, show: report.Screen) -> dict[str, object]:
    began = time.monotonic()
    local = url.startswith("memory")
    rounds, pairs = (5, 300) if quick else (9, 1500)
    show.title(redact.url(url))
    show.step("uncontended, blocking")
    taking_part = contenders.lineup(url)
    pair = uncontended.measure(url, taking_part.blocking, rounds, pairs)
    show.step("uncontended, asyncio")
    pair += uncontended_aio.measure(url, taking_part.aio, rounds, max(100, pairs // 3))
    show.pairs(pair)
    decisions = []
    if taking_part.call is not None:
        show.step("a decision of a rate limit")
        decisions = uncontended.measure(url, [taking_part.call, ours.decision()], rounds, pairs)
        show.pairs(decisions, "a decision of a rate limit, and one raw call")
    duplicates = []
    if taking_part.read is not None and find_spec("celery"):
        show.step("a duplicate of a Celery task")
        duplicates = uncontended.measure(url, [taking_part.read, ours.duplicate()], rounds, pairs)
        show.pairs(duplicates, "a duplicate delay() of a Celery task, and one raw read")
    handed = [] if local else _contended(url, list(taking_part.rivals), quick, show)
    show.step("1,000 leases held")
    standing_still = [standing.holding(url, 1000, 3 if quick else 9, ttl=6)]
    show.step("100 waiters")
    standing_still.append(standing.waiting(url, 100, 3 if quick else 10))
    show.standing(standing_still)
    return {
        "store": redact.url(url),
        "uncontended": [one.as_dict() for one in pair],
        "decisions": [one.as_dict() for one in decisions],
        "duplicates": [one.as_dict() for one in duplicates],
        "contended": [one.as_dict() for one in handed],
        "standing": [one.as_dict() for one in standing_still],
        "rivals_not_run": contenders.rivals_missing(),
        "seconds": round(time.monotonic() - began, 1),
    }


def _contended(url: str, names: list[str], quick: bool, show: report.Screen) -> list[contended.Contention]:
    handed = []
    for processes in (8,) if quick else (2, 8):
        for name in names:
            show.step(f"{processes} processes, {name}")
            handed.append(contended.measure(url, name, processes, 1.5 if quick else 4))
    show.contended(handed)
    return handed
