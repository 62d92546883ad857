"""What a message of a chunked task says of its job, in a header, and what the job remembers of its messages.

The mark names the step: how many chunks were finished when the message was published. A message whose step is over
does nothing, so a job is one chain however often messages are delivered, published, or lost and published again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kombu.utils import json

from locksmith.recipes.chunk_record import Record

HEADER: Final = "locksmith_chunks"
MOST_CALL: Final = 16 * 1024
"""Characters of a call's arguments that a job remembers: each of its writes carries them."""


@dataclass(frozen=True, slots=True)
class Step:
    """The header of one message."""

    key: str
    id: str
    done: int

    @staticmethod
    def of(key: str, record: Record) -> Step:
        """The step at which a job is."""
        return Step(key, record.id, record.done)

    def dump(self) -> dict[str, Any]:
        """As the header has it."""
        return {"key": self.key, "id": self.id, "done": self.done}

    def is_now(self, record: Record | None) -> bool:
        """Whether the job is at this step."""
        return record is not None and (record.id, record.done) == (self.id, self.done)


def of_request(request: Any) -> Step | None:
    """The step of a message, from Celery's request of it; None for one that starts a job."""
    told = getattr(request, HEADER, None)
    if not isinstance(told, dict) or not {"key", "id", "done"} <= told.keys():
        return None
    return Step(str(told["key"]), str(told["id"]), int(told["done"]))


def options_of(request: Any) -> dict[str, Any]:
    """How a call was published, for the messages that follow it: where to, how urgent, until when, with what limits."""
    info = request.delivery_info or {}
    hard, soft = request.timelimit or (None, None)
    found = {"expires": request.expires, "time_limit": hard, "soft_time_limit": soft, "shadow": request.shadow,
             "priority": info.get("priority")}  # fmt: skip
    if info.get("exchange") == "" and info.get("routing_key"):
        found["queue"] = info["routing_key"]
    else:
        found |= {"exchange": info.get("exchange"), "routing_key": info.get("routing_key")}
    headers = {name: value for name, value in (request.headers or {}).items() if name != HEADER}
    told = {name: value for name, value in found.items() if value is not None}
    return told | ({"headers": headers} if headers else {})


def note_of(task: Any, request: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """What a job remembers of the call that began it: enough to publish its next message anywhere. JSON."""
    note: dict[str, Any] = {"task": task.name, "starts": [request.id]}
    try:
        call = json.dumps([list(args), kwargs, options_of(request)])
    except (TypeError, ValueError):
        call = None  # arguments that only pickle knows
    # Where it is None nobody else can publish the call: its job goes on after a crash when the task is called again.
    note["call"] = None if call is None or len(call) > MOST_CALL else call
    return note


def call_of(record: Record) -> tuple[list[Any], dict[str, Any], dict[str, Any]] | None:
    """Arguments and options of the call that began a job; None where it cannot be published by others."""
    told = record.note.get("call") if isinstance(record.note, dict) else None
    if told is None:
        return None
    args, kwargs, options = json.loads(told)
    return args, kwargs, options
