"""What the URLs of SQL stores have in common: SQLAlchemy's meaning, and options that are known or refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from locksmith import redact
from locksmith.errors import ConfigurationError

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds a request may take before it counts as unanswered."""


def parse(url: str) -> sa.URL:
    """The URL as SQLAlchemy reads it. Raises ConfigurationError, with secrets redacted."""
    try:
        return sa.make_url(url)
    except (ArgumentError, ValueError) as bad:
        # SQLAlchemy's message quotes the whole URL, password and all: neither shown nor chained.
        raise ConfigurationError(f"not a database URL: {redact.url(url)}") from (None if "@" in url else bad)


def options(url: sa.URL, known: Sequence[str]) -> Mapping[str, str]:
    """The options of a URL. Raises ConfigurationError for one that is not known, or given twice."""
    for name, value in url.query.items():
        if name not in known:
            raise ConfigurationError(f"unknown option {name!r} in a {url.drivername} URL; known are {', '.join(known)}")
        if not isinstance(value, str):
            raise ConfigurationError(f"option {name!r} is given twice in a {url.drivername} URL: once, please")
    return {name: str(value) for name, value in url.query.items()}


def seconds(name: str, text: str | None, default: float) -> float:
    """An option that is a number of seconds. Raises ConfigurationError."""
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise ConfigurationError(f"option {name!r} is a positive number of seconds, not {text!r}")
    return value
