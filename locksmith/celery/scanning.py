"""scan: one process at a time walks over the work that is left, and enqueues what is neither queued nor running."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import celery

from locksmith.celery.bell import Bell, Watcher
from locksmith.celery.singleton import Singleton
from locksmith.celery.walking import Walk, Walker
from locksmith.celery.wiring import install, wiring_of
from locksmith.client import Client
from locksmith.elections import Leadership
from locksmith.errors import ClientClosed, ConfigurationError, StoreError
from locksmith.recipes.permits import check_count, check_seconds

Work: TypeAlias = Callable[[], Iterable[object]]

logger: Final = logging.getLogger("locksmith.celery")
IDLE: Final = 6
"""How many periods the pauses grow to, by default, while there is no work."""
SOONEST: Final = 1.0
"""Seconds from one walk to the next, at least, however often somebody wakes the scanner."""


class Scanner:
    """A function that yields work, and how it is walked. Calling it calls the function."""

    def __init__(
        self,
        fn: Work,
        every: float,
        key: str | Callable[..., str] | None,
        limit: int | None,
        task: Any,
        name: str | None,
        idle: float | None,
        ttl: float | None,
        app: Any,
    ) -> None:
        self._fn = fn
        self.every = check_seconds("every", every, positive=True)
        self.idle = IDLE * self.every if idle is None else check_seconds("idle", idle, positive=True)
        if self.idle < self.every:
            raise ConfigurationError(f"idle={idle} is the longest pause without work, so it is not below every={every}")
        self._name = name
        self._ttl = ttl
        self._app = app if app is not None or task is None else task.app
        self._key = key
        self._limit = None if limit is None else check_count("limit", limit, most=2**31)
        self._task = task
        self._found: Walker | None = None
        self._bell = Bell()
        functools.update_wrapper(self, fn)

    @property
    def name(self) -> str:
        """What it is called: by default as a task of this function would be."""
        if self._name is None:
            self._name = str(self._application().gen_task_name(self._fn.__name__, self._fn.__module__))
        return self._name

    @property
    def place(self) -> str:
        """The name that is led while walking, and that of the cell which wakes."""
        return f"scan:{self.name}"

    def __call__(self) -> Iterable[object]:
        """The work, as the function yields it."""
        return self._fn()

    def run(self) -> None:
        """Stand for election, and walk for as long as this leads; until `stop`. For a process of its own, or a thread.

        Whatever the function or the broker raises is logged, and the next walk tries again.
        Raises ConfigurationError, GuaranteeMissing, ClientClosed; StoreAuthError and StoreProtocolError.
        """
        client = self.client()
        self._walker()
        watcher = Watcher(client.cell(self.place), self._bell)
        try:
            client.election(self.place, ttl=self._ttl).run(self._lead, stop=self._bell)
        finally:
            watcher.close()

    def stop(self) -> None:
        """Have `run` end: it stops before the next item, and resigns at once. May be called by a signal handler."""
        self._bell.stop()

    def wake(self) -> None:
        """There is work: have whoever leads walk now, wherever that is. One request. Raises StoreError."""
        self.client().cell(self.place).put(None)

    def walk(self) -> Walk | None:
        """Walk once, here and now; None where another process walks, or leads. For a task of your own, or a cron job.

        Raises what the function raises, and publishing; StoreError, LeaseLost.
        """
        lease = self.client().lock(self.place, ttl=self._ttl).try_acquire(note="walk")
        if lease is None:
            return None
        with lease:
            return self._walker().walk(self._fn(), lease.check)

    def client(self) -> Client:
        """Of the store that the application's keys are in."""
        app = self._application()
        install(app)
        return wiring_of(app).current_client()

    def _application(self) -> Any:
        if self._app is None:
            self._app = celery.current_app._get_current_object()  # type: ignore[attr-defined]  # it is a proxy
        return self._app

    def _walker(self) -> Walker:
        if self._found is None:
            self._found = Walker(self._application(), self._task, self._key, self._limit)
        return self._found

    def _lead(self, leadership: Leadership) -> None:
        logger.info("%s walks here, in term %s", self.name, leadership.term)
        leadership.on_lost(self._bell.ring)
        pause = self.every
        while not self._bell.is_set():
            begun = time.monotonic()
            pause = self._next_pause(pause, self._try_walk(leadership))
            if self._bell.rung(begun + pause - time.monotonic()):
                pause = self.every
                self._bell.wait(begun + min(self.every, SOONEST) - time.monotonic())
            leadership.check()

    def _next_pause(self, pause: float, walk: Walk | None) -> float:
        """Seconds from the beginning of this walk to that of the next: growing while there is no work, or no answer."""
        idle = walk is None or not (walk.found or walk.deep)
        return min(2 * pause, self.idle) if idle else self.every

    def _try_walk(self, leadership: Leadership) -> Walk | None:
        def check() -> None:
            leadership.check()
            if self._bell.is_set():
                raise _Stopped

        try:
            walk = self._walker().walk(self._fn(), check)
        except _Stopped:
            return None
        except (ConfigurationError, ClientClosed):
            raise
        except StoreError as error:
            leadership.check()
            logger.warning("%s could not walk to the end, and tries again: %s", self.name, error)
            return None
        except Exception:
            leadership.check()
            logger.exception("%s could not walk to the end, and tries again", self.name)
            return None
        logger.log(
            logging.INFO if walk.enqueued else logging.DEBUG, "%s: %s found, %s enqueued%s",
            self.name, walk.found, walk.enqueued, ", until the queue was deep" if walk.deep else "",
        )  # fmt: skip
        return walk

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name or self._fn.__name__!r}>"


class _Stopped(Exception):
    """`stop` was called in the middle of a walk."""


def scan(
    *,
    every: float,
    key: str | Callable[..., str] | None = None,
    limit: int | None = None,
    task: Any = None,
    name: str | None = None,
    idle: float | None = None,
    ttl: float | None = None,
    app: Any = None,
    beat: bool = False,
) -> Callable[[Work], Scanner]:
    """Make a scanner of a generator function without arguments, which yields what is to be done: signatures of tasks.

    With `task` it may yield arguments instead: a tuple of them, a dict of keywords, or anything else as the only one.
    The tasks have the base Singleton, whose keys tell what is queued or runs; `key` is another one than theirs, a
    template over the arguments or a callable of them.

    `every`: seconds from one walk to the next, which begins when the one before has ended; while there is no work these
    pauses double up to `idle` (6 times `every`), until there is some or somebody calls `wake()`. `limit`: as long as so
    many messages wait in a task's queue, nothing is enqueued. `ttl`: seconds after which a silent process is succeeded
    (the client's). `name`: by default as Celery would call a task of this function.

    `app`: whose store and broker are used; that of `task`, or the current one. With `beat`, for which `app` is needed,
    Celery's beat sends a task of this name every so many seconds, which walks in a worker; else start
    `locksmith scan module:function`, or call `run()`, on as many machines as you like.

    Raises ConfigurationError for settings that cannot work.
    """

    def decorate(fn: Work) -> Scanner:
        made = Scanner(fn, every, key, limit, task, name, idle, ttl, app)
        if beat:
            _schedule(made, app)
        return made

    if beat and app is None:
        raise ConfigurationError("beat=True needs app=, the application whose beat sends the task")
    return decorate


def _schedule(scanner: Scanner, app: Any) -> None:
    def walk() -> None:
        scanner.walk()

    # A Singleton: while one walk is queued or runs, beat adds no other.
    walker = app.task(walk, name=scanner.name, base=Singleton, shared=False, ignore_result=True)
    app.add_periodic_task(scanner.every, walker.s(), name=scanner.name)
