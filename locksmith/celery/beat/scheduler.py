"""What `celery beat -S locksmith` makes: a scheduler that leaves everything to a Beat."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import celery.beat

from locksmith import redact
from locksmith.celery.beat.beating import Beat
from locksmith.celery.beat.entry import Entry, check_overlap, entry_of
from locksmith.celery.beat.inner import Inner
from locksmith.celery.beat.settings import settings_of
from locksmith.celery.wiring import store_url
from locksmith.client import Client, connect
from locksmith.errors import ConfigurationError

logger: Final = logging.getLogger("locksmith.celery.beat")
_STEP: Final = 1.0
_GOODBYE: Final = 5.0
"""Seconds to wait for a beat to resign: Celery's own patience with it is no longer either."""


class LocksmithScheduler(celery.beat.Scheduler):
    """One of many beats: they elect one that fires, and know in common what was fired.

    A beat that does not lead has read no schedule and written nothing. Raises ConfigurationError for settings that
    cannot work, when it is made.
    """

    Entry = Entry

    def __init__(self, app: Any, *args: Any, lazy: bool = False, **kwargs: Any) -> None:
        self._settings = settings_of(app)
        self._url = store_url(app)
        self._beat: Beat | None = None
        self._inner: Inner | None = None
        self._edition = 0
        super().__init__(app, *args, **{**kwargs, "lazy": True})

    @property
    def info(self) -> str:
        """For the banner of `celery beat`."""
        ours = self._settings
        return f"    . locksmith -> {redact.url(self._url)} ({ours.mode}, schedule {ours.schedule}, ttl {ours.ttl:g} s)"

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Wait a little, while the beat works on its own thread. Raises what that ended with."""
        if self._beat is None:
            self._beat = Beat(self.app, self._settings, self._connect, self)
            self._beat.start()
        self._beat.wait(_STEP)
        return 0.0

    def close(self) -> None:
        """Resign. Called from a signal handler, too."""
        if self._beat is not None:
            self._beat.stop(_GOODBYE)
        super().close()

    def _connect(self) -> Client:
        return connect(self._url)

    def load(self, added: Mapping[str, Mapping[str, Any]]) -> Iterable[Any]:
        """See Source.load."""
        entries = self._own() if self._settings.inner is None else self._inners(self._settings.inner)
        for name, told in added.items():
            try:
                entries[name] = entry_of(name, told, self.app)
            except ConfigurationError as error:
                logger.warning("the added entry %r is left out: %s", name, error)
        for entry in entries.values():
            check_overlap(entry, self.app)
        return list(entries.values())

    def edition(self) -> int:
        """See Source.edition."""
        if self._inner is not None and self._inner.changed():
            self._edition += 1
        return self._edition

    def sent(self, entry: Any) -> None:
        """See Source.sent."""
        if self._inner is not None and not isinstance(entry, Entry):
            try:
                self._inner.sent(entry)
            except Exception:  # its database is not what fires depend on
                logger.exception("%r was sent, and its scheduler could not note that", entry.name)

    def _own(self) -> dict[str, Any]:
        self.data: dict[str, Any] = {}
        self.setup_schedule()
        return dict(self.schedule)

    def _inners(self, path: str) -> dict[str, Any]:
        if self._inner is None:
            self._inner = Inner(path, self.app)
        return {entry.name: entry for entry in self._inner.entries()}
