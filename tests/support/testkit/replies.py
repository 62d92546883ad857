"""What a store's reply must be, for tests that go on with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from locksmith.store import Grant, Ticket


def granted(reply: Grant | Ticket | None) -> Grant:
    assert isinstance(reply, Grant), reply
    return reply


def queued(reply: Grant | Ticket | None) -> Ticket:
    assert isinstance(reply, Ticket), reply
    return reply


def eventually(ask: Callable[[], Any], within: float, what: str) -> Any:
    """The first truthy answer, of what has no event to wait for."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.01)
    return answer
