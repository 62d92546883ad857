"""What arrives on a waiter's channel, read from a stream of bytes as it comes.

Not the driver's parser: that one blocks until a message is complete, and a waiting thread must never block on anything
but its own deadline.
"""

from __future__ import annotations

from typing import TypeAlias

from redis.exceptions import ResponseError

Item: TypeAlias = "bytes | int | None"


class Pushes:
    """An incremental reader of RESP2 arrays of texts and numbers, which is all that subscribers get."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[list[Item]]:
        """The messages that are complete now. Raises ResponseError for a refusal."""
        self._rest += data
        messages = []
        at = 0
        while (found := _message(self._rest, at)) is not None:
            message, at = found
            messages.append(message)
        self._rest = self._rest[at:]
        return messages


def _message(data: bytes, at: int) -> tuple[list[Item], int] | None:
    end = data.find(b"\r\n", at)
    if end < 0:
        return None
    kind, rest = data[at : at + 1], data[at + 1 : end]
    at = end + 2
    if kind == b"-":
        raise ResponseError(rest.decode("utf-8", "replace"))
    if kind != b"*":
        return [rest], at
    items: list[Item] = []
    for _ in range(int(rest)):
        if (found := _item(data, at)) is None:
            return None
        item, at = found
        items.append(item)
    return items, at


def _item(data: bytes, at: int) -> tuple[Item, int] | None:
    end = data.find(b"\r\n", at)
    if end < 0:
        return None
    number = int(data[at + 1 : end])
    if data[at : at + 1] == b":":
        return number, end + 2
    if number < 0:
        return None, end + 2
    stop = end + 2 + number
    return (data[end + 2 : stop], stop + 2) if len(data) >= stop + 2 else None
