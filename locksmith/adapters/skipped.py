"""SKIPPED: what a call returns that was not run."""

from __future__ import annotations

from typing import Final, Literal, final


@final
class Skipped:
    """The type of SKIPPED, the only instance there is: falsy, and itself again after copying and pickling."""

    __slots__ = ()

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "SKIPPED"

    def __reduce__(self) -> str:
        return "SKIPPED"


SKIPPED: Final = Skipped()
"""What a call returns that was skipped, unless `default=` says otherwise. Compare with `is`."""
