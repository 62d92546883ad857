"""An application whose entries fire every second: `celery -A beatcrew beat` runs it in a process."""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery


def make() -> Celery:
    app = Celery("beatcrew", broker=os.environ["BEAT_BROKER"], set_as_current=False)
    app.conf.update(json.loads(os.environ["BEAT_CONF"]))
    names = json.loads(os.environ["BEAT_ENTRIES"])
    every: dict[str, Any] = {
        "task": "t",
        "schedule": 1.0,
        "misfire": "all",
        "options": {"queue": os.environ["BEAT_QUEUE"]},
    }
    app.conf.beat_schedule = {name: {**every, "args": [name]} for name in names}
    return app


if "BEAT_BROKER" in os.environ:
    app = make()
