"""The settings of one decorated function, checked when it is decorated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from locksmith.adapters.skipped import SKIPPED
from locksmith.errors import ConfigurationError
from locksmith.recipes.permits import MAX_NOTE, check_seconds, check_ttl, check_wait

OnConflict: TypeAlias = Literal["skip", "raise", "wait", "join"]
_CHOICES: Final = ("skip", "raise", "wait", "join")
_WAITING: Final = ("wait", "join")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the decorator was told. All times are seconds. Raises ConfigurationError, InvalidTTL."""

    note: str
    """The function's qualified name, shown to people who list holders."""
    on_conflict: OnConflict = "skip"
    default: object = SKIPPED
    wait: float | None = None
    once_per: float | None = None
    at_least: float | None = None
    max_hold: float | None = None
    ttl: float | None = None

    def __post_init__(self) -> None:
        if self.on_conflict not in _CHOICES:
            raise ConfigurationError(f"on_conflict is one of {', '.join(_CHOICES)}, not {self.on_conflict!r}")
        if self.wait is not None and self.on_conflict not in _WAITING:
            raise ConfigurationError('wait= is for on_conflict="wait" and "join"; the others do not wait')
        if self.default is not SKIPPED and not self._skips:
            raise ConfigurationError("default= is what a skipped call returns, and with these settings none is skipped")
        check_wait(self.wait)
        for what in ("once_per", "at_least", "max_hold"):
            if (seconds := getattr(self, what)) is not None:
                check_seconds(what, seconds, positive=True)
        if self.ttl is not None:
            check_ttl(self.ttl, 0.0)
        object.__setattr__(self, "note", self.note[-MAX_NOTE:])

    @property
    def patience(self) -> float | None:
        """Seconds to stand in line: None without bound, 0 for one try."""
        return check_wait(self.wait) if self.waits else 0.0

    @property
    def waits(self) -> bool:
        """Whether a call stands in line."""
        return self.on_conflict in _WAITING

    @property
    def joins(self) -> bool:
        """Whether a call may get the result of another one, so that results are recorded."""
        return self.on_conflict == "join"

    @property
    def records(self) -> bool:
        """Whether the end of a run is written down, which takes a store with cells."""
        return self.once_per is not None or self.joins

    def for_generator(self) -> None:
        """Refuse what a generator function cannot do. Raises ConfigurationError."""
        if self.joins:
            raise ConfigurationError('a generator has no result to join: use on_conflict="wait"')
        if self.default is not SKIPPED and not isinstance(self.default, Iterable):
            raise ConfigurationError("default= of a generator function is what a skipped call yields: give an iterable")

    @property
    def _skips(self) -> bool:
        return self.on_conflict == "skip" or (self.on_conflict == "wait" and self.once_per is not None)
