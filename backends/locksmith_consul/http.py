"""HTTP/1.1 as bytes: a request, and the reply to it. No socket; both runtimes read and write what is made here."""

from __future__ import annotations

from typing import Final, NamedTuple

MOST_HEAD: Final = 65_536
OK: Final = 200
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409


class NotHttp(Exception):
    """What answers is no web server, or one that we do not understand."""


class Reply(NamedTuple):
    """An answer, with what py-consul looks for in its own (code, headers, body), and how it came about."""

    code: int
    head: bytes
    """All before the empty line, in lower case."""
    body: str
    since: float = 0.0
    """The clock, read before the request that was answered was sent."""
    again: bool = False
    """Whether the request was sent twice, so that the first one may have acted already."""

    def header(self, name: bytes) -> str:
        """A header; `name` in lower case. "": there is none."""
        return _field(self.head, name)

    @property
    def headers(self) -> dict[str, str]:
        """For py-consul: by name, as "X-Consul-Index" is written."""
        lines = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:])
        return {name.title(): value.strip() for name, _, value in lines}

    @property
    def lasts(self) -> bool:
        """Whether the connection can carry another request."""
        # Without a length it ended with the connection, as in HTTP/1.0.
        framed = b"\r\ncontent-length:" in self.head or b"\r\ntransfer-encoding:" in self.head
        return framed and self.header(b"connection") != "close"


def request(headers: bytes, method: str, target: str, body: bytes) -> bytes:
    """A request, ready to be sent. `target` is ASCII, and safe as it is."""
    return b"%b %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
        method.encode("ascii"),
        target.encode("ascii"),
        headers,
        len(body),
        body,
    )


class Reader:
    """Takes in bytes and gives out replies; one after the other, never two requests under way."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes, since: float = 0.0, *, again: bool = False) -> Reply | None:
        """The reply, once these bytes make it complete. b"": the server closed the connection.

        Raises NotHttp, and ConnectionResetError where a connection ends in the middle of something.
        """
        self._buffer = buffer = self._buffer + data if self._buffer else data
        head, mark, rest = buffer.partition(b"\r\n\r\n")
        if not b"HTTP/1.".startswith(buffer[:7]):
            raise NotHttp("the answer is no HTTP")
        if not mark:
            if len(head) > MOST_HEAD:
                raise NotHttp("the answer's head does not end")
            _more_must_come(data)
            return None
        head = head.lower()
        code = _number(head[9:12], 10)
        body = self._body(head, rest, ended=not data)
        if body is None:
            _more_must_come(data)
            return None
        return Reply(code, head, body.decode("utf-8", "replace"), since, again)

    def _body(self, head: bytes, rest: bytes, *, ended: bool) -> bytes | None:
        if length := _field(head, b"content-length"):
            size = _number(length, 10)
            if len(rest) < size:
                return None
            self._buffer = rest[size:]
            return rest[:size]
        if _field(head, b"transfer-encoding") == "chunked":
            return self._chunks(rest)
        if not ended:  # neither: it lasts until the connection ends
            return None
        self._buffer = b""
        return rest

    def _chunks(self, rest: bytes) -> bytes | None:
        parts: list[bytes] = []
        while True:
            line, mark, rest = rest.partition(b"\r\n")
            if not mark:
                return None
            size = _number(line.partition(b";")[0], 16)
            if len(rest) < size + 2:
                return None  # begun anew with every read: what we ask for is small
            if not size:
                self._buffer = rest[2:]
                return b"".join(parts)
            parts.append(rest[:size])
            rest = rest[size + 2 :]


def _more_must_come(data: bytes) -> None:
    if not data:
        raise ConnectionResetError("the server closed the connection")


def _field(head: bytes, name: bytes) -> str:
    at = head.find(b"\r\n%b:" % name)
    if at < 0:
        return ""
    value = head[at + len(name) + 3 :].partition(b"\r\n")[0]
    return value.strip().decode("latin-1")


def _number(text: bytes | str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise NotHttp(f"the answer is no HTTP: {text[:20]!r} is no number")
    return number
