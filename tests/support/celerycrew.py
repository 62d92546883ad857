"""A Celery application with tasks that do as they are told: `celery -A celerycrew worker` runs it in a process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import crewchunks
import limitcrew
from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

import locksmith
from locksmith.celery import Singleton

PATIENCE = 60.0


class Told:
    """The folder through which a test and its tasks speak: a journal, and files that open gates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def note(self, *words: object) -> None:
        with (self.folder / "journal").open("a") as journal:
            journal.write(" ".join(map(str, words)) + "\n")

    def lines(self, *begin: object) -> list[str]:
        try:
            text = (self.folder / "journal").read_text()
        except FileNotFoundError:
            return []
        wanted = " ".join(map(str, begin))
        return [line for line in text.splitlines() if f"{line} ".startswith(f"{wanted} ")]

    def open(self, gate: str) -> None:
        (self.folder / f"gate-{gate}").touch()

    def wait(self, gate: str) -> None:
        until = time.monotonic() + PATIENCE
        while not (self.folder / f"gate-{gate}").exists():
            if time.monotonic() > until:
                raise TimeoutError(gate)
            time.sleep(0.01)


def make(broker: str, backend: str, store: str, folder: str, **conf: Any) -> Celery:
    """An application: the same in the test and in its workers."""
    app = Celery("crew", broker=broker, backend=backend)
    told = Told(Path(folder))
    app.conf.update(
        locksmith_url=store,
        broker_connection_retry_on_startup=True,
        task_default_queue=f"crew-{Path(folder).parent.name}-{Path(folder).name}",
        worker_hijack_root_logger=False,
        task_send_sent_event=False,
        **conf,
    )
    if broker.startswith("filesystem"):
        queue = Path(folder, "queue")
        queue.mkdir(exist_ok=True)
        control = Path(folder, "control")
        control.mkdir(exist_ok=True)
        app.conf.broker_transport_options = {
            "data_folder_in": str(queue),
            "data_folder_out": str(queue),
            "control_folder": str(control),
            "polling_interval": 0.05,
        }
    _once_tasks(app, told)
    _life(app, told)
    _phases(app, told)
    limitcrew.tasks(app, told)
    _replacing(app, told)
    crewchunks.tasks(app, told)
    app.told = told
    return app


def _life(app: Celery, told: Told) -> None:
    @app.task(shared=False, base=Singleton, bind=True, name="work")
    def work(self: Any, name: str, how: str = "return", gate: str | None = None) -> str:
        told.note("begin", name, self.request.id, os.getpid())
        if gate is not None:
            told.wait(gate)
        done = _do(self, how)
        told.note("end", name, self.request.id, os.getpid())
        return f"{name} {done}"

    app.task(shared=False, base=Singleton, bind=True, name="late", acks_late=True)(work.run.__func__)
    app.task(shared=False, base=Singleton, bind=True, name="loyal", acks_late=True, reject_on_worker_lost=True)(
        work.run.__func__
    )
    app.task(shared=False, bind=True, name="plain")(work.run.__func__)
    app.task(shared=False, bind=True, name="loyal_plain", acks_late=True, reject_on_worker_lost=True)(work.run.__func__)
    app.task(shared=False, base=Singleton, bind=True, name="raising", singleton_on_duplicate="raise")(work.run.__func__)
    app.task(shared=False, base=Singleton, bind=True, name="skipping", singleton_on_duplicate="skip")(work.run.__func__)
    app.task(shared=False, base=Singleton, bind=True, name="lax", singleton_on_store_error="run")(work.run.__func__)
    app.task(shared=False, base=Singleton, bind=True, name="here", singleton_scope="{task}@{queue}")(work.run.__func__)

    @app.task(shared=False, base=Singleton, bind=True, name="flaky", autoretry_for=(OSError,), retry_backoff=False,
              default_retry_delay=1, max_retries=3)  # fmt: skip
    def flaky(self: Any, name: str) -> int:
        told.note("begin", name, self.request.id, self.request.retries)
        if self.request.retries < 1:
            raise OSError("not yet")
        return int(self.request.retries)

    @app.task(shared=False, base=Singleton, bind=True, name="mutate")
    def mutate(self: Any, items: list[int], more: dict[str, int]) -> int:
        items.append(1)
        more["x"] = 1
        if self.request.retries == 0:
            raise self.retry(countdown=0.1)
        return len(items)

    @app.task(shared=False, name="add")
    def add(*numbers: Any) -> str:
        return "+".join(map(str, numbers))

    @app.task(shared=False, name="collect")
    def collect(results: list[str]) -> list[str]:
        return results


def _do(self: Any, how: str) -> str:
    errors = {
        "raise": ValueError("as told"), "ignore": Ignore(),
        "reject": Reject("as told", requeue=False), "requeue": Reject("as told", requeue=True),
    }  # fmt: skip
    if how.endswith("-once"):
        if self.app.told.lines(how, self.request.id):
            return "done"
        self.app.told.note(how, self.request.id)
        how = how.removesuffix("-once")
    if how in errors:
        raise errors[how]
    if how == "retry" and self.request.retries == 0:
        raise self.retry(countdown=1)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "soft":
        try:
            time.sleep(PATIENCE)
        except SoftTimeLimitExceeded:
            return "in time"
    if how == "sleep":
        time.sleep(PATIENCE)
    return "done"


def _replacing(app: Celery, told: Told) -> None:
    def body(self: Any, name: str, text: str = "", gate: str | None = None) -> str:
        told.note("begin", name, text, self.request.id)
        if gate is not None:
            told.wait(gate)
        return text

    def task(name: str, **options: Any) -> None:
        app.task(shared=False, base=Singleton, bind=True, name=name, unique_on=["name"], **options)(body)

    task("newest", singleton_on_duplicate="replace")
    task("last", singleton_on_duplicate="keep_last")
    task("couple", max_queued=2)
    task("moved", singleton_compat="celery-singleton")


def _phases(app: Celery, told: Told) -> None:
    def body(self: Any, name: str, gate: str | None = None) -> str:
        told.note("begin", name, self.request.id)
        if gate is not None:
            told.wait(gate)
        told.note("end", name, self.request.id)
        return self.request.id

    def task(name: str, **options: Any) -> None:
        app.task(shared=False, base=Singleton, bind=True, name=name, unique_on=["name"], **options)(body)

    task("until_executing", singleton_phase="until_executing")
    task("until_expired", singleton_phase="until_expired", singleton_ttl=300)
    task("while_executing", singleton_phase="while_executing")
    task("while_dropping", singleton_phase="while_executing", singleton_on_conflict="drop")
    task("both", singleton_phase="until_and_while_executing")


def _once_tasks(app: Celery, told: Told) -> None:
    @app.task(shared=False, name="once", bind=True, autoretry_for=(OSError,), default_retry_delay=0, max_retries=2)
    @locksmith.run_once("once:{name}", store=app.conf.locksmith_url, ttl=5)
    def once(self: Any, name: str, how: str = "return", gate: str | None = None) -> str:
        told.note("begin", name, self.request.id, locksmith.current_lease().token)
        if gate is not None:
            told.wait(gate)
        if how == "flaky" and self.request.retries == 0:
            raise OSError("not yet")
        _do(self, how)
        return name

    @app.task(shared=False, name="digest", bind=True)
    @locksmith.run_once(store=app.conf.locksmith_url, ttl=5)
    def digest(self: Any, name: str, gate: str | None = None) -> str:
        told.note("begin", name, self.request.id)
        if gate is not None:
            told.wait(gate)
        return name


def _end_with_the_test() -> None:
    # The other end of this pipe is the test's; it closes however the test ends.
    if "gevent.monkey" in sys.modules:
        from gevent.os import tp_read  # a plain read would stop all greenlets

        tp_read(0, 1)
    else:
        os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def _beside(wait: Any) -> None:
    if "gevent.monkey" in sys.modules:
        import gevent

        # There a thread is none, and would keep all others waiting.
        gevent.get_hub().threadpool.spawn(wait)
    else:
        threading.Thread(target=wait, daemon=True).start()


if "CREW_FOLDER" in os.environ:
    _beside(_end_with_the_test)
    app = make(
        os.environ["CREW_BROKER"],
        os.environ["CREW_BACKEND"],
        os.environ["CREW_STORE"],
        os.environ["CREW_FOLDER"],
        **{
            name.removeprefix("CREW_CONF_").lower(): float(value)
            for name, value in os.environ.items()
            if name.startswith("CREW_CONF_")
        },
    )
