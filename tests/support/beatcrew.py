"""An application whose entries fire every second: `celery -A beatcrew beat`, and workers that note what they run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from locksmith.celery import install


def make() -> Celery:
    app = Celery("beatcrew", broker=os.environ["BEAT_BROKER"], set_as_current=False)
    app.conf.update(json.loads(os.environ["BEAT_CONF"]), task_default_queue=os.environ["BEAT_QUEUE"])
    every: dict[str, Any] = {"task": "t", "schedule": 1.0, "misfire": "all"}
    app.conf.beat_schedule = {name: {**every, "args": [name]} for name in json.loads(os.environ["BEAT_ENTRIES"])}
    install(app)

    @app.task(name="t", bind=True, ignore_result=True)
    def fire(self: Any, entry: str) -> None:
        moment = self.request.locksmith_fire[2]
        with Path(os.environ["BEAT_JOURNAL"]).open("a") as journal:
            journal.write(f"{entry} {moment} {time.time_ns() // 1000 - moment}\n")

    return app


if "BEAT_BROKER" in os.environ:
    app = make()
