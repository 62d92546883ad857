"""SKIPPED: what a call returns that was not run."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, final


@final
class Skipped(Enum):
    """The type of SKIPPED, the only one of its kind: falsy, and itself again after copying and pickling."""

    # An enum, because type checkers narrow `int | Skipped` by `is SKIPPED` only for members of one.
    SKIPPED = "skipped"

    def __bool__(self) -> Literal[False]:
        return False

    def __json__(self) -> None:
        """What task queues that ask objects for their JSON (kombu's, that is Celery's) store as the result: null."""

    def __repr__(self) -> str:
        return "SKIPPED"

    __str__ = __repr__


SKIPPED: Final = Skipped.SKIPPED
"""What a call returns that was skipped, unless `default=` says otherwise. Compare with `is`."""
