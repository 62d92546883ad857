"""One proxied connection: two pipes, the settings they obey, and the faults that are waiting for them."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

CHUNK: Final = 65_536
# What one pipe keeps in memory before it stops reading: like a socket's buffer, only that tests can stall it.
FULL: Final = 1_048_576
_RESET: Final = struct.pack("ii", 1, 0)

FaultKind = Literal["lose_request", "hold_request", "lose_reply", "lose_push"]


class Flow:
    """One direction of a proxy, for all its connections. Settings may change at any time.

    `delay` (seconds) and `rate` (bytes per second, None for no limit) apply to what arrives from now on; nothing
    overtakes. While `stalled`, bytes are kept, as a network that lost its way would keep sending them again: they
    arrive when the stall ends, also from a connection whose sender has left.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.delay = 0.0
        self.rate: float | None = None
        self._stalled = False
        self._changed = changed

    @property
    def stalled(self) -> bool:
        """Whether nothing gets through in this direction."""
        return self._stalled

    @stalled.setter
    def stalled(self, value: bool) -> None:
        self._stalled = value
        self._changed()

    def heal(self) -> None:
        """No delay, no limit, no stall."""
        self.delay, self.rate = 0.0, None
        self.stalled = False


class Fault:
    """Something that happens once, when its time has come. `wait` for it; `cancel` it; `release` a held request."""

    def __init__(
        self, kind: FaultKind, nth: int, matching: bytes | None, reset: bool, changed: Callable[[Fault], None]
    ) -> None:
        self.kind: FaultKind = kind
        self.matching = matching
        self.reset = reset
        self._left = nth
        self._fired = threading.Event()
        self._changed = changed
        self.released = False
        self.cancelled = False

    @property
    def fired(self) -> bool:
        """Whether it has happened."""
        return self._fired.is_set()

    def wait(self, timeout: float = 10.0) -> None:
        """Return when it has happened.

        Raises:
            AssertionError: it did not within `timeout` seconds.
        """
        if not self._fired.wait(timeout):
            raise AssertionError(f"{self.kind} did not happen within {timeout:g} s")

    def cancel(self) -> None:
        """It shall not happen any more."""
        self.cancelled = True

    def release(self) -> None:
        """Let a held request, and what came after it, travel on to the server."""
        self.released = True
        self._changed(self)

    def due(self, data: bytes) -> bool:
        """Count these bytes; whether they are the ones it waits for. For the proxy's thread."""
        if self.cancelled or (self.matching is not None and self.matching not in data):
            return False
        self._left -= 1
        return self._left <= 0

    def fire(self) -> None:
        """Say that it has happened. For the proxy's thread."""
        self._fired.set()


class Pipe:
    """Bytes from one socket to another, each piece with the moment before which it must not arrive."""

    def __init__(self, source: socket.socket, sink: socket.socket, flow: Flow) -> None:
        self.source, self.sink, self.flow = source, sink, flow
        self.held: Fault | None = None
        self.ended = False
        """The source has nothing more to say."""
        self.done = False
        """And the sink has heard all of it."""
        self.blocked = False
        """The sink takes no more for now."""
        self._queue: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._last = 0.0

    @property
    def hungry(self) -> bool:
        """Whether it wants to read."""
        return not self.ended and self._size < FULL

    def put(self, data: bytes, now: float, fault: Fault | None = None) -> None:
        """Queue what was read; empty bytes are the end. With a fault they, and all that follows, are held."""
        if fault is not None:
            self.held, self._last = fault, math.inf
        due = max(now + self.flow.delay, self._last)
        if self.flow.rate:
            due += len(data) / self.flow.rate
        self._last = due
        self._queue.append((due, data))
        self._size += len(data)
        self.ended = self.ended or not data

    def unhold(self, now: float) -> None:
        """Let go of what a fault held."""
        self.held, self._last = None, now
        self._queue = deque((min(due, now), data) for due, data in self._queue)

    def next_due(self) -> float:
        """The moment when it has something to do; infinity for never."""
        return self._queue[0][0] if self._queue and not self.flow.stalled else math.inf

    def wakes_at(self) -> float:
        """The moment until which its thread may sleep, as far as this pipe is concerned; infinity for ever."""
        return math.inf if self.blocked else self.next_due()

    def flush(self, now: float) -> None:
        """Write what is due, as far as the sink takes it. OSError where the sink is gone."""
        self.blocked = False
        while self.next_due() <= now:
            due, data = self._queue.popleft()
            if not data:
                self.done = True
                with contextlib.suppress(OSError):
                    self.sink.shutdown(socket.SHUT_WR)
                return
            try:
                sent = self.sink.send(data)
            except BlockingIOError:
                sent = 0
            self._size -= sent
            if sent < len(data):
                self._queue.appendleft((due, data[sent:]))
                self.blocked = True
                return

    def piece(self) -> int:
        """How much to read at once: little where the rate is low, so that bytes trickle and do not come in lumps."""
        return CHUNK if not self.flow.rate else max(1, min(CHUNK, int(self.flow.rate / 20)))


class Link:
    """A client's connection and ours to the server on its behalf."""

    def __init__(self, client: socket.socket, server: socket.socket, to_server: Flow, to_client: Flow) -> None:
        self.client, self.server = client, server
        self.up = Pipe(client, server, to_server)
        self.down = Pipe(server, client, to_client)
        self.asked = False
        """The client said something that the server has not answered."""
        self.swallow: Fault | None = None
        """The next reply is to be lost."""
        self.client_left = False

    def pipes(self) -> tuple[Pipe, ...]:
        """The directions that are still in use."""
        return (self.up,) if self.client_left else (self.up, self.down)

    @property
    def over(self) -> bool:
        """Whether nothing can travel any more."""
        return self.up.done and (self.down.done or self.client_left)

    def leave(self, *, reset: bool, now: float) -> None:
        """End the client's side now; the server still gets what is on its way to it, and then the end."""
        close(self.client, reset=reset)
        self.client_left = True
        if not self.up.ended:
            self.up.put(b"", now)

    def cut(self, *, reset: bool) -> None:
        """End both sides now; what is on its way is lost."""
        if not self.client_left:
            close(self.client, reset=reset)
        close(self.server, reset=reset)


def close(connection: socket.socket, *, reset: bool = False) -> None:
    """Close a socket, with a RST where asked; none goes out while a forked process has inherited the socket."""
    with contextlib.suppress(OSError):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            connection.shutdown(socket.SHUT_RDWR)
    connection.close()
