"""A blocking connection: opened by the driver, spoken to by us.

The driver does what is hard, TLS and authentication. What it does around each request costs as much as the request's
own work: several layers of calls, and two poll() before a socket with a time limit is written and read.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any, Final

from redis import exceptions as driver

from locksmith_redis.resp import MORE, Reader, new_reader
from locksmith_redis.server import Endpoint

CHUNK: Final = 65_536
_SECONDS: Final = struct.Struct("ll")


class Wire:
    """One connection and its unread bytes. Whoever gets an exception that is not a reply must `close` it."""

    __slots__ = ("connection", "reader", "sock")

    def __init__(self, server: Endpoint, seconds: float) -> None:
        """Connect and authenticate, each step within so many seconds. Raises the driver's errors."""
        self.reader: Reader = new_reader()
        self.connection = server.open(seconds)
        self.sock: Any = self.connection._sock
        self.limit(seconds)

    def limit(self, seconds: float) -> None:
        """How long a single read or write may take from now on."""
        sock = self.sock
        if _is_plain(sock):
            # The kernel's own limits: Python's would cost a poll() before every call.
            moment = _SECONDS.pack(int(seconds), int(seconds % 1 * 1e6) or 1)
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, moment)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, moment)
        else:
            sock.settimeout(seconds)

    def ask(self, payload: bytes) -> Any:
        """Send a request and read its reply; a refusal is raised. Raises the driver's errors."""
        try:
            self.sock.sendall(payload)
            reader = self.reader
            while True:
                data = self.sock.recv(CHUNK)
                if not data:
                    raise driver.ConnectionError("the server closed the connection")
                reader.feed(data)
                reply = reader.gets()
                if reply is not MORE:
                    break
        except OSError as error:
            raise _told(error) from error
        if isinstance(reply, driver.RedisError):
            raise reply
        return reply

    def send(self, payload: bytes) -> None:
        """Send requests. Raises the driver's errors."""
        try:
            self.sock.sendall(payload)
        except OSError as error:
            raise _told(error) from error

    def receive(self) -> Any:
        """The next reply; a refusal is returned. Raises the driver's errors."""
        reader = self.reader
        try:
            while (reply := reader.gets()) is MORE:
                data = self.sock.recv(CHUNK)
                if not data:
                    raise driver.ConnectionError("the server closed the connection")
                reader.feed(data)
        except OSError as error:
            raise _told(error) from error
        return reply

    def close(self) -> None:
        """End the connection."""
        self.connection.disconnect()


def _told(error: OSError) -> driver.RedisError:
    if isinstance(error, TimeoutError | BlockingIOError):
        return driver.TimeoutError("no answer in time")
    return driver.ConnectionError(str(error))


def _is_plain(sock: Any) -> bool:
    # gevent's and eventlet's sockets come from modules of theirs, and TLS needs Python's own time limits.
    return sys.platform == "linux" and type(sock).__module__ == "socket"
