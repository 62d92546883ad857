"""What `celery beat -S locksmith` makes: a scheduler that leaves everything to a Beat."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import celery.beat

from locksmith import redact
from locksmith.celery.beat.beating import Beat
from locksmith.celery.beat.entry import Entry, check_overlap, entry_of
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
        super().__init__(app, *args, **{**kwargs, "lazy": True})

    @property
    def info(self) -> str:
        """For the banner of `celery beat`."""
        ours = self._settings
        return f"    . locksmith -> {redact.url(self._url)} ({ours.mode}, schedule {ours.schedule}, ttl {ours.ttl:g} s)"

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Wait a little, while the beat works on its own thread. Raises what that ended with."""
        if self._beat is None:
            self._beat = Beat(self.app, self._settings, self._connect, self._load)
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

    def _load(self, added: Mapping[str, Mapping[str, Any]]) -> Iterable[Any]:
        self.data: dict[str, Any] = {}
        self.setup_schedule()
        entries = dict(self.schedule)
        for name, told in added.items():
            try:
                entries[name] = entry_of(name, told, self.app)
            except ConfigurationError as error:
                logger.warning("the added entry %r is left out: %s", name, error)
        for entry in entries.values():
            check_overlap(entry, self.app)
        return list(entries.values())
