"""A beat at work, on threads of its own: one for each share of the schedule.

Its own threads, because Celery ends a beat from within a signal handler, which may not wait for anything that the
interrupted thread holds; and because a main thread that is blocked must not keep others from leading.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from locksmith.celery.beat.settings import Settings
from locksmith.celery.beat.shard import Shard
from locksmith.client import Client


class Source(Protocol):
    """Where the entries come from. Nothing of it is called by a beat that does not lead."""

    def load(self, added: Mapping[str, Mapping[str, Any]]) -> Iterable[Any]:
        """The entries as they are now, with those that were added. Raises ConfigurationError."""

    def edition(self) -> int:
        """Counts up when they have changed."""

    def sent(self, entry: Any) -> None:
        """A fire of this entry was sent."""


class Beat:
    """One beat."""

    def __init__(self, app: Any, settings: Settings, connect: Callable[[], Client], source: Source) -> None:
        self.app = app
        self.settings = settings
        self.me = f"{settings.name}/{uuid.uuid4().hex[:12]}"
        self._connect = connect
        self._source = source
        self._loading = threading.Lock()
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._shards: list[Shard] = []
        self._thread = threading.Thread(target=self._live, name="locksmith-beat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Sleep at most so long, while this beat lives. Raises what it ended with."""
        if self._ended.wait(seconds) and self._error is not None:
            raise self._error

    def stop(self, within: float) -> bool:
        """Resign and end; whether that was done within so many seconds. Safe in a signal handler, and idempotent."""
        self._give_up()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        return self._ended.wait(within)

    @property
    def stopped(self) -> bool:
        """Whether it is to end."""
        return self._stop.is_set()

    @property
    def leads(self) -> int:
        """How many shares it leads."""
        return sum(shard.leads for shard in self._shards)

    @property
    def busy(self) -> bool:
        """Whether it leads any."""
        return self.leads > 0

    def load(self, added: Mapping[str, Mapping[str, Any]]) -> Iterable[Any]:
        """The entries, as they are now."""
        with self._loading:
            return self._source.load(added)

    @property
    def edition(self) -> int:
        """Counts up when the entries have changed."""
        with self._loading:
            return self._source.edition()

    def sent(self, entry: Any) -> None:
        """A fire of this entry was sent."""
        with self._loading:
            self._source.sent(entry)

    def wake_others(self, shard: Shard) -> None:
        """One share is led here now: the others look whether they still want to be."""
        for each in self._shards:
            if each is not shard:
                each.wake()

    def _give_up(self) -> None:
        self._stop.set()
        for shard in self._shards:
            shard.wake()

    def _live(self) -> None:
        try:
            with self._connect() as client:
                self._shards = [Shard(self, client, number) for number in range(self.settings.shards)]
                others = [
                    threading.Thread(target=partial(self._try, shard), name="locksmith-beat-shard", daemon=True)
                    for shard in self._shards[1:]
                ]
                for thread in others:
                    thread.start()
                self._try(self._shards[0])
                for thread in others:
                    thread.join()
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
            self._error = error
        finally:
            self._ended.set()

    def _try(self, shard: Shard) -> None:
        try:
            shard.run()
        except BaseException as error:  # noqa: BLE001 - as above
            self._error = self._error or error
            self._give_up()
