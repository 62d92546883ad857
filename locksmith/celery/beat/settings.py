"""What the Celery configuration says of a beat: `locksmith_beat_*`, and which store."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import Any, Final

from locksmith.celery.beat.book import PAGES
from locksmith.celery.beat.misfire import Misfire, misfire_of
from locksmith.errors import ConfigurationError
from locksmith.recipes.permits import check_count, check_seconds

TTL: Final = 10.0
MODES: Final = ("elected", "active")


@dataclass(frozen=True, slots=True)
class Settings:
    """Raises ConfigurationError for what cannot work."""

    schedule: str = "celery"
    """Beats of one schedule are one another's stand-ins. The name of the application unless it says otherwise."""
    ttl: float = TTL
    """Seconds after which a beat that is silent is succeeded."""
    name: str = ""
    """For people. Who leads is decided between processes, whatever they are called."""
    mode: str = "elected"
    shards: int = 1
    """Into how many shares the schedule is divided, each with a leader of its own. The same for all beats."""
    inner: str | None = None
    """Another scheduler class, whose entries are fired beside those that were added here."""
    misfire: Misfire = field(default_factory=Misfire)

    def __post_init__(self) -> None:
        check_seconds("locksmith_beat_ttl", self.ttl, positive=True)
        if self.mode not in MODES:
            raise ConfigurationError(f"locksmith_beat_mode is one of {', '.join(MODES)}, not {self.mode!r}")
        check_count("locksmith_beat_shards", self.shards, most=PAGES)
        if self.shards > 1 and self.mode == "active":
            raise ConfigurationError("active beats share every entry anyway: leave locksmith_beat_shards out")
        for what in ("schedule", "name"):
            if not isinstance(getattr(self, what), str):
                raise ConfigurationError(f"locksmith_beat_{what} is text, not {getattr(self, what)!r}")


def settings_of(app: Any) -> Settings:
    """The settings of an application. Raises ConfigurationError."""

    def told(what: str, default: Any) -> Any:
        value = app.conf.get(f"locksmith_beat_{what}")
        return default if value is None else value

    return Settings(
        schedule=told("schedule", app.main or "celery"),
        ttl=told("ttl", TTL),
        name=told("name", f"{socket.gethostname()}:{os.getpid()}"),
        mode=told("mode", "elected"),
        shards=told("shards", 1),
        inner=told("inner", None),
        misfire=misfire_of(told("misfire", "once")),
    )
