"""Structured log lines by the standard logger: one per event, as key=value, with the same facts in extra=."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Final

from locksmith import events
from locksmith.errors import ConfigurationError

if TYPE_CHECKING:
    from locksmith.aio import AsyncClient
    from locksmith.client import Client

INTERRUPTIONS: Final = frozenset({"CancelledError", "ClientClosed", "GeneratorExit", "KeyboardInterrupt", "SystemExit"})
"""Kinds of Failed that say nothing about a store: somebody did not want to go on."""

_ALWAYS: Final[dict[type[events.Event], int]] = {
    events.PassedOver: logging.INFO,
    events.Recovered: logging.INFO,
    events.Lost: logging.ERROR,
    events.Unrenewed: logging.WARNING,
}
_PLAIN: Final = re.compile(r"[\w.:/@+*-]+", re.ASCII)


class EventLog(events.Journal):
    """A hook that logs every event on one line. Instead of what locksmith logs of events otherwise, not besides.

    Levels: Lost is an ERROR; whatever could not be asked of the store is a WARNING, but no more than one line of a
    kind in `repeat` seconds (the others are logged at DEBUG and counted in the next one, as `suppressed`); waits of at
    least `long_wait` seconds, passing over and recovery are INFO; everything else is DEBUG.
    """

    __slots__ = ("_clock", "_limits", "_long_wait", "_repeat", "_store")

    def __init__(
        self,
        store: str,
        *,
        long_wait: float = 1.0,
        repeat: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if long_wait < 0 or repeat < 0:
            raise ConfigurationError("long_wait and repeat are seconds, not negative")
        self._store = store
        self._long_wait = long_wait
        self._repeat = repeat
        self._clock = clock
        self._limits: dict[tuple[type[events.Event], str], tuple[float, int]] = {}

    def __call__(self, event: events.Event) -> None:
        """Log it."""
        level = self._level(event)
        if level < logging.WARNING and not events.logger.isEnabledFor(level):
            return
        facts = {"store": self._store} | {fact.name: getattr(event, fact.name) for fact in fields(event)}
        if level == logging.WARNING:
            level, suppressed = self._limited(event)
            if suppressed:
                facts["suppressed"] = suppressed
        if not events.logger.isEnabledFor(level):
            return
        what = snake(type(event).__name__)
        line = " ".join(f"{key}={shown(value)}" for key, value in ({"event": what} | facts).items())
        extra = {f"locksmith_{key}": value for key, value in facts.items()}
        events.logger.log(level, "%s", line, extra={"locksmith_event": event, "locksmith_what": what} | extra)

    def _level(self, event: events.Event) -> int:
        if isinstance(event, events.Acquired | events.GaveUp):
            return logging.INFO if event.queued and event.waited >= self._long_wait else logging.DEBUG
        if isinstance(event, events.Failed):
            return logging.DEBUG if event.kind in INTERRUPTIONS else logging.WARNING
        if isinstance(event, events.RenewalFailed):
            # The first in a row is told as Suspect, which says how much time is left.
            return logging.DEBUG if event.failures == 1 else logging.WARNING
        if isinstance(event, events.Suspect | events.ReleaseFailed):
            return logging.WARNING
        return _ALWAYS.get(type(event), logging.DEBUG)

    def _limited(self, event: events.Event) -> tuple[int, int]:
        """The level of a warning, and how many like it were not shown as such before."""
        key = type(event), str(getattr(event, "kind", ""))
        now = self._clock()
        until, suppressed = self._limits.get(key, (now, 0))
        if now < until:
            self._limits[key] = until, suppressed + 1
            return logging.DEBUG, 0
        self._limits[key] = now + self._repeat, 0
        return logging.WARNING, suppressed


def log_events(client: Client | AsyncClient, *, long_wait: float = 1.0, repeat: float = 60.0) -> EventLog:
    """Log the events of a client in lines of key=value (see EventLog). Called again, it changes the settings.

    What it returns may be given to `client.remove_hook`: then the usual lines are back. Raises ConfigurationError.
    """
    journal = EventLog(scheme(client), long_wait=long_wait, repeat=repeat)
    hooks = client._engine.hooks
    before = [hook for hook in hooks if isinstance(hook, EventLog)]
    client.add_hook(journal)
    for hook in before:
        client.remove_hook(hook)
    return journal


def scheme(client: Client | AsyncClient) -> str:
    """What kind of store a client has, as its URL begins: the only part of an address that has few values."""
    found, mark, _ = client.address.partition("://")
    return found if mark else "other"


def snake(name: str) -> str:
    """RenewalFailed as renewal_failed."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def shown(value: object) -> str:
    """A value as it stands behind the equals sign: one word, or in quotes, and always on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6f}"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=not text.isprintable())
