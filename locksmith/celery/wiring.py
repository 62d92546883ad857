"""What an application is given once: deduplication in its `send_task`, and a step in its workers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from celery import Celery
from celery.utils.collections import ConfigurationView

from locksmith.adapters.clients import ENV, BlockingSource
from locksmith.celery import incarnation, moving
from locksmith.celery.ledger import Ledger
from locksmith.client import Client
from locksmith.errors import ConfigurationError
from locksmith.recipes.permits import check_seconds

WORKER_TTL: Final = 60.0
_ATTRIBUTE: Final = "_locksmith"
_installing: Final = threading.Lock()


class Wiring:
    """What we know of one application."""

    def __init__(self, app: Any, client: Client | Callable[[], Client] | None) -> None:
        self.app = app
        self.client = client
        self.publish: Callable[..., Any] = app.send_task
        """The application's own `send_task`."""
        self._ledger: tuple[int, Client, Ledger] | None = None
        self._source: BlockingSource | None = None
        self._eager_of: Any = None
        self._eager_names: tuple[str, ...] = ()

    @property
    def worker_ttl(self) -> float:
        """Seconds after which a worker that does not beat counts as dead. Raises ConfigurationError."""
        told = self.app.conf.get("singleton_worker_ttl")
        return WORKER_TTL if told is None else check_seconds("singleton_worker_ttl", told, positive=True)

    def is_eager(self) -> bool:
        """Whether calls run at once, in this process. What `conf.task_always_eager` says, in a fifth of its time."""
        conf = self.app.conf
        if self._eager_of is conf:
            return _said(conf, self._eager_names)
        eager = bool(conf.task_always_eager)  # asking makes the configuration what it is to be, if it was not yet
        conf = self.app.conf
        if isinstance(conf, ConfigurationView) and not conf.key_t:
            names = conf._to_keys("task_always_eager")  # all that this setting has ever been called
            if _said(conf, names) == eager:  # else this Celery looks in other ways, too
                self._eager_of, self._eager_names = conf, names
        return eager

    def ledger(self) -> Ledger:
        """The ledger of this process. Raises ConfigurationError where nothing says which store to use."""
        client, pid = self.current_client(), os.getpid()
        known = self._ledger
        if known is None or known[0] != pid or known[1] is not client:
            known = self._ledger = pid, client, Ledger(client, lambda: incarnation.current, self.worker_ttl / 8)
        return known[2]

    def current_client(self) -> Client:
        """The client of this process. Raises ConfigurationError where nothing says which store to use."""
        if self._source is None:
            self._source = BlockingSource(self.client, None if self.client is not None else store_url(self.app))
        return self._source.get()


def store_url(app: Any) -> str:
    """The URL of the store that an application uses. Raises ConfigurationError where nothing says which."""
    url = moving.store_url(app.conf) or os.environ.get(ENV)
    if not isinstance(url, str):
        raise ConfigurationError(
            f"locksmith.celery does not know which store to use: set locksmith_url in the Celery configuration "
            f"(CELERY_LOCKSMITH_URL through Django's settings), for example to redis://localhost:6379/0, or the "
            f"environment variable {ENV}"
        )
    return url


def install(app: Any, *, client: Client | Callable[[], Client] | None = None, compat: str | None = None) -> None:
    """Prepare a Celery application: calls of its Singleton tasks are folded, its workers beat for what they run.

    `client`: a locksmith client, or a callable that returns one (asked in each process), instead of `locksmith_url`.
    `compat`: "celery-singleton", whose locks are honoured as well; `singleton_compat` of the configuration.
    Defining a task with `base=Singleton` does this by itself; say it yourself to give a client. Idempotent. Sends
    nothing. Raises ConfigurationError where it was installed with another client.
    """
    from locksmith.celery.publishing import Publisher
    from locksmith.celery.worker import HeartStep

    app = getattr(app, "_get_current_object", lambda: app)()  # what stands behind celery.current_app
    with _installing:
        wired = _found(app)
        if wired is None:
            wiring = Wiring(app, client)
            app.send_task = Publisher(wiring)
            app.steps["worker"].add(HeartStep)
            setattr(app, _ATTRIBUTE, wiring)
        elif client is not None and wired.client is not client:
            if wired.client is not None:
                raise ConfigurationError("this application was given another client already: install it once")
            wired.client, wired._source = client, None
    if compat is not None:
        app.conf.singleton_compat = compat
        for task in list(app._tasks.values()):
            if hasattr(task, "_locksmith_plan"):
                task._plan = None  # made again, with it


def cover_names() -> None:
    """Have Celery make an application's tasks before it publishes one by name, and not when somebody asks for one.

    It makes them late, and no base hears of that earlier: a process whose first call is by name, as that of
    `celery call`, would publish a Singleton task that was not installed yet. Idempotent. Called when Singleton is
    imported: without it there are none.
    """
    celery: Any = Celery
    send_task = celery.send_task
    if hasattr(send_task, _ATTRIBUTE):
        return

    @wraps(send_task)
    def covered(app: Any, *args: Any, **options: Any) -> Any:
        if _found(app) is None and not app.finalized and app.autofinalize:
            app.finalize(auto=True)
            if _found(app) is not None:
                return app.send_task(*args, **options)  # which is another one by now
        return send_task(app, *args, **options)

    setattr(covered, _ATTRIBUTE, True)
    celery.send_task = covered


def client_of(app: Any) -> Client:
    """The client of an application in this process, which is prepared for it. Raises ConfigurationError."""
    if _found(app) is None:
        install(app)
    return wiring_of(app).current_client()


def wiring_of(app: Any) -> Wiring:
    """What `install` left in an application. Raises ConfigurationError where it was not installed."""
    wired = _found(app)
    if wired is None:
        raise ConfigurationError("locksmith.celery was not installed in this application: call install(app)")
    return wired


def _found(app: Any) -> Wiring | None:
    found = getattr(app, "__dict__", {}).get(_ATTRIBUTE)
    return found if isinstance(found, Wiring) else None


def _said(conf: Any, names: tuple[str, ...]) -> bool:
    for said in conf.maps:
        for name in names:
            if name in said:
                return bool(said[name])
    return False
