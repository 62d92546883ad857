"""From names, of which there may be millions, to label values, of which there are few."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from locksmith.errors import ConfigurationError

OTHER: Final = "other"
"""The label of every name that no pattern fits."""
MOST: Final = 50
"""Patterns that may be given: each one is a time series of its own, times the buckets of the histograms."""
_REMEMBERED: Final = 4096
_PARTS: Final = re.compile(r"(\*|\?|\{[^{}]*\})")


class Patterns:
    """Patterns such as `user:*` or `report:{user.id}:{day}`; `*` and `{...}` stand for anything, `?` for one character.

    The label is the pattern as it was given, so there are never more labels than patterns, and `other`. The first
    pattern that fits counts. Raises ConfigurationError for what is no pattern, and for more than 50.
    """

    def __init__(self, names: Iterable[str]) -> None:
        # One string is iterable too, and would mean a pattern for each of its letters.
        given: list[object] = [names] if isinstance(names, str) else list(names)
        labels = tuple(dict.fromkeys(one for one in given if isinstance(one, str)))
        if not all(isinstance(one, str) and one for one in given):
            raise ConfigurationError("names= takes patterns: texts such as 'user:*' or 'report:{day}'")
        if len(labels) > MOST:
            raise ConfigurationError(
                f"names= takes at most {MOST} patterns, not {len(labels)}: use patterns that fit more names"
            )
        patterns = [(re.compile(_expression(one), re.DOTALL), one) for one in labels]

        @lru_cache(_REMEMBERED)
        def label(name: str) -> str:
            return next((one for pattern, one in patterns if pattern.fullmatch(name)), OTHER)

        self.label: Final = label


def _expression(pattern: str) -> str:
    return "".join(_meaning(part) for part in _PARTS.split(pattern))


def _meaning(part: str) -> str:
    if part == "?":
        return "."
    return ".*" if _PARTS.fullmatch(part) else re.escape(part)
