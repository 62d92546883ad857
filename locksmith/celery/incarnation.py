"""Which worker this process belongs to: an id of its own for each start, inherited by the children of its pool."""

from __future__ import annotations

import uuid

current: str | None = None
"""None in a process that is neither a worker nor forked by one."""


def begin() -> str:
    """This process is a worker, and a new one. Called before its pool forks."""
    global current  # noqa: PLW0603 - forked children inherit it, which is what it is for
    current = uuid.uuid4().hex
    return current
