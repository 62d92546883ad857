"""Workers of `celerycrew`, in processes of their own, and what a test asks them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import celerycrew
from celery import Celery

from locksmith.celery.ledger import Ledger, Place
from locksmith.celery.wiring import wiring_of
from locksmith.testing.waiting import eventually

SUPPORT = Path(__file__).resolve().parent


class Crew:
    """An application, the worker processes it was given, and the folder they write to."""

    def __init__(self, folder: Path, broker: str, backend: str, store: str, **conf: Any) -> None:
        self.folder = folder / "told"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._urls = {"CREW_BROKER": broker, "CREW_BACKEND": backend, "CREW_STORE": store}
        self._conf = conf
        self.app: Celery = celerycrew.make(broker, backend, store, str(self.folder), **conf)
        self.told = self.app.told
        self.workers: list[Worker] = []

    def worker(self, *options: str) -> Worker:
        environment = {
            **os.environ, **self._urls, "CREW_FOLDER": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)]),
            **{f"CREW_CONF_{name.upper()}": str(value) for name, value in self._conf.items()},
        }  # fmt: skip
        made = Worker(self.folder / f"worker{len(self.workers)}.log", environment, options)
        self.workers.append(made)
        return made

    def __getattr__(self, name: str) -> Any:
        return self.app.tasks[name]

    def begun(self, name: str, times: int = 1) -> list[str]:
        """Wait until a task has begun so often; the words it noted the last time: begin, name, id, and more."""
        eventually(lambda: len(self.told.lines("begin", name)) >= times, within=40, what=f"{name} begun {times} times")
        return self.told.lines("begin", name)[-1].split()

    def freed(self, task: str, *args: Any, **kwargs: Any) -> None:
        """Wait until nobody has the key of these arguments."""
        eventually(
            lambda: self.entry(task, *args, **kwargs) is None, within=40, what=f"the key of {task}{args} is free"
        )

    def entry(self, task: str, *args: Any, what: str = "queue", **kwargs: Any) -> Any:
        return self.ledger.read(Place(self.app.tasks[task].key_for(*args, **kwargs), what))

    @property
    def ledger(self) -> Ledger:
        return wiring_of(self.app).ledger()

    def close(self) -> None:
        with ExitStack() as stack:
            for worker in self.workers:
                stack.callback(worker.end)
        source = wiring_of(self.app)._source
        if source is not None:
            source.get().close()
        # Results that a failed test still refers to are collected when the server is gone, and would complain.
        vars(self.app.backend)["remove_pending_result"] = lambda result: result
        if hasattr(self.app.backend, "result_consumer"):
            self.app.backend.result_consumer.stop()
        self.app.close()


class Worker:
    """One `celery worker` in a process group of its own."""

    def __init__(self, log: Path, environment: dict[str, str], options: tuple[str, ...]) -> None:
        self.log = log
        # A name that no other has: RabbitMQ keeps the queue through which a worker is told things for one of its name.
        name = f"{log.stem}-{uuid.uuid4().hex[:8]}"
        command = [sys.executable, "-P", "-m", "celery", "-A", "celerycrew", "worker", "--without-gossip",
                   "--without-mingle", "-n", f"{name}@%h", "-l", "INFO", *options]  # fmt: skip
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=log.parent,
                start_new_session=True,
            )  # fmt: skip
        try:
            eventually(self._is_ready, within=40, what=f"a worker is ready: {log}")
        except BaseException:
            self.end()
            raise

    def _is_ready(self) -> bool:
        text = self.log.read_text()
        assert self.process.poll() is None, text
        return " ready." in text

    def kill(self) -> None:
        """SIGKILL for the worker and its children."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self._reap()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
