"""What becomes of the fires of an entry that nobody could send in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from locksmith.celery.beat.moments import SECOND
from locksmith.errors import ConfigurationError
from locksmith.recipes.permits import check_count, check_seconds

POLICIES: Final = ("once", "skip", "all")
ON_TIME: Final = 5.0
"""Seconds by which a fire may be late and is still not missed, for the policy "skip"."""


@dataclass(frozen=True, slots=True)
class Misfire:
    """Which of the fires that are due are sent. Raises ConfigurationError for what cannot work."""

    policy: str = "once"
    """"once": the newest; "all": each of the newest `limit`; "skip": the newest, and only where it is on time."""
    limit: int = 100
    window: float | None = None
    """Seconds: what is later than that is not sent. With "skip" 5 unless you say otherwise."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigurationError(f"a misfire policy is one of {', '.join(POLICIES)}, not {self.policy!r}")
        check_count("a misfire limit", self.limit, most=10_000)
        if self.window is not None:
            check_seconds("a misfire window", self.window, positive=True)

    def choose(self, due: Sequence[int], now: int) -> Sequence[int]:
        """Those of the due moments, in order, whose fires are sent now."""
        newest = due[-(self.limit if self.policy == "all" else 1) :]
        window = self.window
        if window is None and self.policy == "skip":
            window = ON_TIME
        if window is None:
            return newest
        oldest = now - int(window * SECOND)
        return [moment for moment in newest if moment >= oldest]


def misfire_of(told: object) -> Misfire:
    """The policy that an entry or the configuration names: a word, or a mapping of policy, limit and window."""
    if isinstance(told, Misfire):
        return told
    if isinstance(told, str):
        return Misfire(told)
    if isinstance(told, Mapping):
        known: dict[str, Any] = dict(told)
        try:
            return Misfire(**known)
        except TypeError as error:
            raise ConfigurationError(f"a misfire policy has policy, limit and window: {error}") from error
    raise ConfigurationError(f"a misfire policy is a word or a mapping, not {told!r}")
