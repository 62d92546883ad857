"""A blocking connection to an agent: one request at a time, and its reply."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Final

from locksmith_consul.http import Reader, Reply
from locksmith_consul.url import Server

CHUNK: Final = 65_536


class Wire:
    """One connection and its unread bytes. Whoever gets an exception must `close` it."""

    __slots__ = ("_reader", "sock")

    def __init__(self, server: Server, seconds: float) -> None:
        """Connect within so many seconds. Raises OSError."""
        sock: Any = socket.create_connection((server.host, server.port), timeout=seconds)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if server.tls is not None:
                sock = server.tls.wrap_socket(sock, server_hostname=server.host)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
        self._reader = Reader()

    def ask(self, payload: bytes, seconds: float, since: float, *, again: bool) -> Reply:
        """Send a request and read its reply; `since` and `again` are the reply's. Raises OSError and NotHttp."""
        sock = self.sock
        until = time.monotonic() + seconds
        sock.settimeout(seconds)
        sock.sendall(payload)
        while (reply := self._reader.feed(sock.recv(CHUNK), since, again=again)) is None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            sock.settimeout(left)
        return reply

    def send(self, payload: bytes, seconds: float) -> None:
        """Send a request whose reply is `pull`ed later. Raises OSError."""
        self.sock.settimeout(seconds)
        self.sock.sendall(payload)
        self.sock.settimeout(0)

    def pull(self) -> Reply | None:
        """What has arrived of the reply, once it is complete; never waits. Raises OSError and NotHttp."""
        try:
            while (reply := self._reader.feed(self.sock.recv(CHUNK))) is None:
                pass
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return None
        return reply

    def close(self) -> None:
        """End the connection."""
        self.sock.close()
