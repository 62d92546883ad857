"""Chunked tasks of `celerycrew`: they note each chunk, and do as they are told."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery import Celery

from locksmith.celery import Chunk, chunkify_task


def _first(name: str, *_: Any, **__: Any) -> Chunk:
    return Chunk(start=0, size=10, max=49)


def tasks(app: Celery, told: Any) -> None:
    def body(self: Any, name: str, chunk: Chunk, gate: str | None = None, how: str = "return") -> int:
        info = self.request.delivery_info
        told.note("call", name, info["routing_key"], info["priority"], getattr(self.request, "mine", None),
                  self.request.timelimit[0], self.request.expires)  # fmt: skip
        told.note("chunk", name, chunk.start, chunk.end, *chunk.range, self.request.id)
        if gate is not None and chunk.start == 20:
            told.wait(gate)
        if how.startswith("raise") and chunk.start == 10 and not (how == "raise-once" and _before(told, name, 10) > 1):
            raise ValueError("as told")
        if how == "die-once" and chunk.start == 10 and _before(told, name, 10) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        told.note("done", name, chunk.start, chunk.end)
        return chunk.start

    def task(name: str, **options: Any) -> None:
        plan: dict[str, Any] = {"sleep_timeout": 0.05, "initial_chunk": _first, "ttl": 3, "retry_pause": 0.05}
        app.task(shared=False, bind=True, name=name)(chunkify_task(**plan | options)(body))

    task("chunks")
    task("chunks_paced", rate="2/s")
    task("chunks_patient", max_waiting=2, queue=f"{app.conf.task_default_queue}-more")

    @app.task(shared=False, name="chunks_first")
    @chunkify_task(sleep_timeout=0, initial_chunk=Chunk(0, 4, 9), ttl=3)
    def chunks_first(chunk: Chunk, name: str, *more: Any, **options: Any) -> None:
        told.note("chunk", name, chunk.start, chunk.end, *more, *sorted(options))


def _before(told: Any, name: str, start: int) -> int:
    return len(told.lines("chunk", name, start))
