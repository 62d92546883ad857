"""What a message says of its key, in a header: so that nobody has to work it out again from arguments that changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

HEADER: Final = "locksmith"


@dataclass(frozen=True, slots=True)
class Mark:
    """The header of one message."""

    key: str
    after: str | None = None
    """The call that this one duplicates, and whose result it is to have."""
    skip: bool = False
    """Whether it is to end as a duplicate instead."""
    copy: bool = False
    """Whether it is another delivery of a call that was running: it runs only if that run has died."""
    tries: int = 0
    """How often it was put off."""

    graces: int = 0
    """How often it came back for a result although the key was free."""

    slot: int = 0
    """Which of the places for queued calls of the key it has, or looks to."""
    took: bool = False
    """Whether publishing has taken that place: if somebody else has it now, this call was replaced."""

    def dump(self) -> dict[str, Any]:
        """As the header has it."""
        told: dict[str, Any] = {"key": self.key}
        for name in ("after", "skip", "copy", "tries", "graces", "slot", "took"):
            if value := getattr(self, name):
                told[name] = value
        return told


def of_request(request: Any) -> Mark | None:
    """The mark of a message, from Celery's request of it; None where it has none."""
    return read(getattr(request, HEADER, None))


def read(told: Any) -> Mark | None:
    """The mark in a header; None where there is none."""
    if not isinstance(told, dict) or not isinstance(told.get("key"), str):
        return None
    return Mark(
        told["key"], told.get("after"), bool(told.get("skip")), bool(told.get("copy")),
        int(told.get("tries", 0)), int(told.get("graces", 0)), int(told.get("slot", 0)), bool(told.get("took")),
    )  # fmt: skip


def of_own_retry(task: Any, task_id: str | None) -> Mark | None:
    """The mark of the call that runs now, where the one to be published is the same call again."""
    if task_id is None:
        return None
    request = task.request
    return of_request(request) if request.id == task_id and not request.called_directly else None
