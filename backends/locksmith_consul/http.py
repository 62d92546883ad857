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
    """An answer, in the form of py-consul's own replies (code, headers, body), and how it came about."""

    code: int
    headers: dict[str, str]
    """By name, as "X-Consul-Index" is written."""
    body: str
    since: float = 0.0
    """The clock, read before the request that was answered was sent."""
    again: bool = False
    """Whether the request was sent twice, so that the first one may have acted already."""

    @property
    def lasts(self) -> bool:
        """Whether the connection can carry another request."""
        return self.headers.get("Connection", "").lower() != "close"


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

    def feed(self, data: bytes) -> Reply | None:
        """The reply, once these bytes make it complete. b"": the server closed the connection.

        Raises NotHttp, and ConnectionResetError where a connection ends in the middle of something.
        """
        self._buffer += data
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            if self._buffer and not b"HTTP/1.".startswith(self._buffer[:7]):
                raise NotHttp("the answer is no HTTP")
            if len(head) > MOST_HEAD:
                raise NotHttp("the answer's head does not end")
            _more_must_come(data)
            return None
        code, headers = _head(head)
        body = self._body(headers, rest, ended=not data)
        if body is None:
            _more_must_come(data)
            return None
        return Reply(code, headers, body.decode("utf-8", "replace"))

    def _body(self, headers: dict[str, str], rest: bytes, *, ended: bool) -> bytes | None:
        if (length := headers.get("Content-Length")) is not None:
            size = _number(length, 10)
            if len(rest) < size:
                return None
            self._buffer = rest[size:]
            return rest[:size]
        if headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks(rest)
        if not ended:  # neither: it lasts until the connection ends
            return None
        headers["Connection"] = "close"
        self._buffer = b""
        return rest

    def _chunks(self, rest: bytes) -> bytes | None:
        parts: list[bytes] = []
        while True:
            line, mark, rest = rest.partition(b"\r\n")
            if not mark:
                return None
            size = _number(line.partition(b";")[0].decode("latin-1"), 16)
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


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdigit():
        raise NotHttp(f"the answer is no HTTP: it begins {first[:20]!r}")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.title()] = value.strip()
    return int(status[:3]), headers


def _number(text: str, base: int) -> int:
    try:
        number = int(text.strip(), base)
    except ValueError:
        number = -1
    if number < 0:
        raise NotHttp(f"the answer is no HTTP: {text[:20]!r} is no length")
    return number
