"""Limited tasks of `celerycrew`: each notes its slot, and when it began by the store's clock."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery import Celery

from locksmith.celery import RateLimited, RateLimitedSingleton, Singleton
from locksmith.celery.slots import StoreClock
from locksmith.celery.wiring import wiring_of


class SingletonFirst(Singleton, RateLimited):
    abstract = True


class LimitFirst(RateLimited, Singleton):
    abstract = True


def tasks(app: Celery, told: Any) -> None:
    def body(self: Any, name: str, how: str = "return", gate: str | None = None) -> str:
        now = StoreClock(wiring_of(app).current_client()).now()
        slot = getattr(self.request, "_locksmith_slot", 0)
        told.note("begin", name, self.request.id, slot, round(now * 1e6), self.request.retries)
        if gate is not None:
            told.wait(gate)
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "retry" and self.request.retries == 0:
            raise self.retry(countdown=0)
        told.note("end", name, self.request.id)
        return self.request.id

    def task(name: str, base: type = RateLimited, **options: Any) -> None:
        app.task(shared=False, base=base, bind=True, name=name, max_retries=1, **options)(body)

    task("paced", limit="10/s", limit_key="{name}")
    task("paced_late", limit="1/3s", limit_key="{name}", acks_late=True)
    task("fast", limit="70/s")
    task("fast_few", limit="70/s", limit_concurrency=20)
    task("fast_singleton", RateLimitedSingleton, limit="70/s", singleton_key="{how}")
    task("slow_paced", limit="1/8s", limit_key="{name}")
    task("windows", limit=("20/s", "6/4s"), limit_burst=(5, 2), limit_key="{name}")
    task("few", limit_concurrency=2, limit_key="{name}", limit_ttl=2)
    task("few_paced", limit="2/s", limit_concurrency=1, limit_key="{name}", limit_ttl=2)
    task("singleton_first", SingletonFirst, limit="1/2s", limit_key="{name}", singleton_key="{name}:{how}")
    task("limit_first", LimitFirst, limit="1/2s", limit_key="{name}", singleton_key="{name}:{how}")
    task("together", RateLimitedSingleton, limit="1/2s", limit_concurrency=1, singleton_key="{name}:{how}")
