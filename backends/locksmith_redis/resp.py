"""Replies read from a stream of bytes as it comes: by hiredis, or where that is not installed by this module.

Not by the driver's parsers, which block until a reply is complete and are tied to the driver's connection.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from redis import exceptions as driver

MORE: Final = object()
"""What `gets` returns while the next reply is not complete."""


class Reader(Protocol):
    """An incremental reader of RESP2. Refusals are returned, as exceptions."""

    def feed(self, data: bytes, /) -> None:
        """Take what has arrived."""

    def gets(self) -> Any:
        """The next reply, or MORE."""


def refusal(text: str) -> driver.ResponseError:
    """The driver's exception for an error reply, with its code."""
    return driver.NoScriptError(text) if text.startswith("NOSCRIPT") else driver.ResponseError(text)


class PlainReader:
    """A reader in Python."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes, /) -> None:
        """See Reader.feed."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def gets(self) -> Any:
        """See Reader.gets."""
        reply, end = self._reply(self._at)
        if reply is not MORE:
            self._at = end
        return reply

    def _reply(self, at: int) -> tuple[Any, int]:
        end = self._data.find(b"\r\n", at)
        if end < 0:
            return MORE, at
        kind, rest, at = self._data[at : at + 1], self._data[at + 1 : end], end + 2
        if kind == b"+":
            return rest, at
        if kind == b"-":
            return refusal(rest.decode("utf-8", "replace")), at
        if kind not in (b":", b"$", b"*"):
            raise driver.InvalidResponse(f"Protocol error, got {kind!r} as reply type byte")
        number = int(rest)
        if kind == b":":
            return number, at
        if number < 0:
            return None, at
        return self._text(at, number) if kind == b"$" else self._array(at, number)

    def _text(self, at: int, size: int) -> tuple[Any, int]:
        end = at + size
        return (self._data[at:end], end + 2) if len(self._data) >= end + 2 else (MORE, at)

    def _array(self, at: int, size: int) -> tuple[Any, int]:
        items = []
        for _ in range(size):
            item, at = self._reply(at)
            if item is MORE:
                return MORE, at
            items.append(item)
        return items, at


def _hiredis_reader() -> Reader:
    reader: Reader = hiredis.Reader(
        protocolError=driver.InvalidResponse,
        replyError=refusal,
        notEnoughData=MORE,
        errors="replace",
    )
    return reader


try:
    import hiredis
except ModuleNotFoundError:
    new_reader: Any = PlainReader
else:
    new_reader = _hiredis_reader
