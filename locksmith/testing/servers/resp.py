"""Enough of Redis' protocol to ask a server something without a driver."""

from __future__ import annotations

import socket
from typing import IO, TypeAlias

from locksmith.errors import LocksmithError

Reply: TypeAlias = "str | int | list[Reply] | RedisReplyError | None"


class RedisReplyError(LocksmithError):
    """The server refused a command: the message is its own."""


def ask(connection: socket.socket, *words: str | int) -> Reply:
    """Send one command and read its reply. Texts that are not UTF-8 arrive with lone surrogates.

    Raises:
        RedisReplyError: the server refused the command.
        OSError: the connection broke.
    """
    connection.sendall(_command([str(word).encode("utf-8", "surrogateescape") for word in words]))
    with connection.makefile("rb") as stream:
        reply = _read(stream)
    if isinstance(reply, RedisReplyError):
        raise reply
    return reply


def _command(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _read(stream: IO[bytes]) -> Reply:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server closed the connection before its reply was complete")
    kind, rest = line[:1], line[1:-2].decode("utf-8", "surrogateescape")
    if kind == b"-":
        return RedisReplyError(rest)
    if kind == b"+":
        return rest
    if kind == b":":
        return int(rest)
    if kind == b"*":
        return None if rest == "-1" else [_read(stream) for _ in range(int(rest))]
    return None if rest == "-1" else _text(stream, int(rest))


def _text(stream: IO[bytes], length: int) -> str:
    raw = stream.read(length + 2)
    if len(raw) != length + 2:
        raise ConnectionResetError("the server closed the connection before its reply was complete")
    return raw[:-2].decode("utf-8", "surrogateescape")
