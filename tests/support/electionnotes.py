"""What candidates in other processes have noted, and whether it fits together."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path


@dataclass
class TermNotes:
    """What was noted about one term."""

    token: int
    pid: int = 0
    elected: int = 0
    lost: int = 0
    first_believed_by: float = float("inf")
    """It was believed in at this moment, or earlier."""
    last_believed_from: float = 0.0
    """It was believed in at this moment, or later."""
    pids: set[int] = field(default_factory=set)


def read(path: Path) -> list[TermNotes]:
    """The terms, in the order of their tokens."""
    terms: dict[int, TermNotes] = {}
    for line in path.read_text("utf-8").splitlines():
        what, token, pid, asked, noted = line.split()
        term = terms.setdefault(int(token), TermNotes(int(token)))
        term.pids.add(int(pid))
        term.pid = int(pid)
        if what == "believes":
            term.first_believed_by = min(term.first_believed_by, float(noted))
            term.last_believed_from = max(term.last_believed_from, float(asked))
        elif what == "elected":
            term.elected += 1
        else:
            term.lost += 1
    return [terms[token] for token in sorted(terms)]


def check(terms: list[TermNotes], *, killed: AbstractSet[int] = frozenset()) -> None:
    """P10: no two believed at one moment, and each was told once of its beginning, and at most once of its end."""
    for term in terms:
        assert len(term.pids) == 1, term
        assert term.elected == 1, term
        assert term.lost <= 1, term
    for earlier, later in pairwise(terms):
        assert earlier.last_believed_from < later.first_believed_by, (earlier, later)
        assert earlier.lost == 1 or earlier.token in killed, earlier
