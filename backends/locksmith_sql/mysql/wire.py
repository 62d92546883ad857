"""A blocking connection: opened by SQLAlchemy, spoken to by the driver's own cursor."""

from __future__ import annotations

import select
import ssl
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What came back: the rows of the first result, how many rows a change found, and the last insert id."""

    rows: tuple[tuple[Any, ...], ...]
    found: int
    last: int


def errors_of(raw: Any) -> tuple[type[Exception], ...]:
    """What this driver raises where a request fails."""
    return getattr(raw, "Error", Exception), OSError, EOFError


class Line:
    """The socket of an idle connection."""

    def __init__(self, sock: Any) -> None:
        self._poll = select.poll() if sock is not None and hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(sock.fileno(), select.POLLIN)

    def quiet(self) -> bool:
        """Whether nothing has arrived. A server that hangs up says so, and unasked it says nothing else."""
        return self._poll is None or not self._poll.poll(0)


class Wire:
    """One connection. Whoever gets an exception that is not the server's answer must `abort` it."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.errors = errors_of(raw)
        self.owed: list[tuple[str, str]] = []
        self._cursor = raw.cursor()
        self._limit = 0.0
        # PyMySQL opens its socket and keeps it; other drivers may not show theirs.
        self._line = Line(getattr(raw, "_sock", None))

    def encrypted(self) -> bool:
        """Whether TLS is spoken. PyMySQL 1.1.1 goes on without it where the server offers none, and says nothing.

        Drivers that do not show their socket see to it themselves.
        """
        sock = getattr(self.raw, "_sock", None)
        return sock is None or isinstance(sock, ssl.SSLSocket)

    def ready(self) -> bool:
        """Whether the idle connection still lives, as far as can be told without asking the server."""
        return self._line.quiet()

    def limit(self, seconds: float) -> None:
        """How long a single read or write may take from now on."""
        if seconds != self._limit:
            self._limit = seconds
            # PyMySQL heeds these before every read and write; with another driver its own limits hold.
            self.raw._read_timeout = self.raw._write_timeout = seconds

    def ask(self, text: str, values: tuple[object, ...], seconds: float) -> Reply:
        """Send a statement and read all that comes back. Raises the driver's errors."""
        self.limit(seconds)
        cursor = self._cursor
        count = cursor.execute(text, values or None)
        rows = cursor.fetchall() if cursor.description else ()
        reply = Reply(rows, count if isinstance(count, int) else cursor.rowcount, cursor.lastrowid or 0)
        # A CALL has one more result, without rows, behind those of the procedure.
        while cursor.nextset():
            pass
        return reply

    def close(self) -> None:
        """Say goodbye, and end the connection."""
        self.limit(1.0)
        self.raw.close()

    def abort(self) -> None:
        """End the connection without a word: an answer may be under way on it."""
        end = getattr(self.raw, "_force_close", None) or self.raw.close
        end()
