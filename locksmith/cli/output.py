"""What commands write: tables for people, JSON for programs, one line for what went wrong."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from locksmith import redact

_UNLIMITED: Final = 10_000
"""Columns of what is not a terminal: whoever pipes a table wants whole names."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would end the process with status 1, which means "no" here.
        raise BrokenPipeError


def console(stream: TextIO | None = None) -> Console:
    """A console on stdout, or on `stream`: colours on a terminal only, unless NO_COLOR or FORCE_COLOR say otherwise."""
    stream = stream or sys.stdout
    return _Console(
        file=stream,
        width=None if stream.isatty() else _UNLIMITED,
        # Names and notes are other people's text: never markup, never emoji, never guessed at.
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )


def can_live(on: Console) -> bool:
    """Whether a table may be redrawn in place: a real terminal, whatever FORCE_COLOR says about colours."""
    return on.file.isatty() and not on.is_dumb_terminal


def say_json(value: Any) -> None:
    """One JSON value on one line, names exactly as they are (what is not ASCII is escaped the way JSON does)."""
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()


def failure(kind: str, message: str, *, as_json: bool) -> None:
    """One line on stderr about what went wrong."""
    line = " ".join(redact.text(message).split())
    if as_json:
        sys.stderr.write(json.dumps({"error": kind, "message": line}) + "\n")
        return
    on = console(sys.stderr)
    on.print(Text("error: ", style="bold red") + Text(visible(line)), soft_wrap=True)


def table(*columns: str, right: Iterable[str] = (), widths: Mapping[str, int] | None = None) -> Table:
    """An empty table in the style of all of ours. `right`: columns of numbers. `widths`: the least of each."""
    # Two columns between cells: one of padding, one of the box. That much more fits into 80.
    made = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    numbers = set(right)
    for column in columns:
        least = (widths or {}).get(column)
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold", min_width=least)
    return made


def visible(text: str) -> str:
    r"""Somebody's text, safe on a terminal and one to one: what cannot be seen, and the backslash, is escaped."""
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode("ascii") for char in text
    )


def duration(seconds: float) -> str:
    """Seconds for people: "0.4 s", "12 s", "5 min", "3.1 h", "12 days"."""
    if not math.isfinite(seconds):
        return "?"
    for limit, form, unit in (
        (9.95, "{:.1f} s", 1),
        (119.5, "{:.0f} s", 1),
        (7200 - 30, "{:.0f} min", 60),
        (172800, "{:.1f} h", 3600),
    ):
        if seconds < limit:
            return form.format(seconds / unit)
    return f"{seconds / 86400:.0f} days"


def log(name: str, level: int) -> None:
    """Write what this logger says to stderr, for a command that runs for long."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("locksmith: %(message)s"))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
