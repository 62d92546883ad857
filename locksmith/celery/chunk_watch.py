"""In a worker's parent process: a thread that looks after chunked jobs whose next message was lost.

A worker that is killed takes the messages along that it had acknowledged, and nobody can ask a broker whether one is
left. But publishing a step once more does no harm, so whoever sees a job stand still says it again: after a while in
which nobody had its lane, and less and less often, since the message may just wait in a long queue.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import Any, Final

from celery import signals

from locksmith.celery import chunk_marks
from locksmith.celery.chunk_marks import Step
from locksmith.celery.chunking import plan_of, publish
from locksmith.celery.wiring import client_of
from locksmith.client import Client
from locksmith.errors import CellConflict, LocksmithError
from locksmith.recipes import chunk_list, places
from locksmith.recipes.chunk_job import ChunkJob
from locksmith.recipes.chunk_record import OVER, Record
from locksmith.recipes.permits import check_seconds
from locksmith.runtime import SystemClock, drive

logger: Final = logging.getLogger("locksmith.celery")
PERIOD: Final = 15.0
"""Seconds between two looks; `chunks_watch_period` in the Celery configuration."""
MOST_DOUBLINGS: Final = 7


@dataclass(frozen=True, slots=True)
class Sight:
    """A job as it was seen, and since when it has looked like that."""

    what: tuple[str, int, int]
    since: float


class Watch:
    """Of one worker."""

    def __init__(self, app: Any, client: Client, period: float) -> None:
        self._app = app
        self._client = client
        self._period = period
        self._clock = SystemClock()
        self._seen: dict[str, Sight] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name="locksmith-celery-chunks", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """The worker ends."""
        self._stop.set()
        self._thread.join(5.0)

    def _live(self) -> None:
        while not self._stop.wait(self._period):
            try:
                self.look()
            except LocksmithError as error:
                logger.warning("chunked jobs are not looked after at the moment: %s", error)
            except Exception:
                logger.exception("chunked jobs are not looked after at the moment")

    def look(self) -> None:
        """Look at each job once."""
        names = drive(chunk_list.active(self._client._engine))
        self._seen = {name: sight for name, sight in self._seen.items() if name in names}
        for name in names:
            job = ChunkJob(self._client._engine, name)
            record = drive(job.read())
            if record is None or record.state in OVER:
                drive(chunk_list.remove(self._client._engine, name, chunk_list.ACTIVE))
            elif record.state == "running" and isinstance(record.note, dict):
                self._look_at(job, record)

    def _look_at(self, job: ChunkJob, record: Record) -> None:
        task = self._app.tasks.get(record.note.get("task"))
        plan = None if task is None else plan_of(task)
        call = chunk_marks.call_of(record)
        if plan is None or call is None:
            return
        what, now = (record.id, record.done, record.version), self._clock.now()
        seen = self._seen.get(job.name)
        if seen is None or seen.what != what:
            self._seen[job.name] = Sight(what, now)
            return
        told = record.note.get("nudges", 0) if record.note.get("nudged") == record.done else 0
        if now - seen.since < self._patience(plan.sleep, told) or self._is_held(job):
            return
        nudged = {**record.note, "nudged": record.done, "nudges": min(told + 1, MOST_DOUBLINGS)}
        try:
            drive(job.write(replace(record, note=nudged)))
        except CellConflict:
            return  # it goes on, or another worker has seen it too
        logger.warning("the chunked job %r stands still: its next message is published once more", job.name)
        publish(task, *call, Step.of(job.name, record), 0.0)

    def _patience(self, sleep: float, told: int) -> float:
        return float((max(2 * self._period, 0.0) + sleep) * 2**told)

    def _is_held(self, job: ChunkJob) -> bool:
        return bool(drive(job.engine.store.inspect(places.of_chunks(job.name, "lane0"))).holders)


_watches: Final[list[Watch]] = []


@signals.worker_ready.connect(weak=False)
def _worker_is_ready(sender: Any = None, **_: object) -> None:
    app = getattr(sender, "app", None)
    if app is None or not any(plan_of(task) for task in app.tasks.values()):
        return
    try:
        told = app.conf.get("chunks_watch_period")
        period = PERIOD if told is None else check_seconds("chunks_watch_period", told, positive=True)
        watch = Watch(app, client_of(app), period)
    except LocksmithError as error:
        logger.error("chunked jobs are not looked after: %s", error)  # noqa: TRY400 - the sentence says it all
        return
    _watches.append(watch)
    watch.start()


@signals.worker_shutdown.connect(weak=False)
def _worker_ended(**_: object) -> None:
    while _watches:
        _watches.pop().stop()
