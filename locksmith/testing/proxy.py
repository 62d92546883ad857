"""A TCP proxy that misbehaves when it is told to: the network between a client and a server, in the hands of a test."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

from locksmith.errors import LocksmithError
from locksmith.testing.links import Fault, FaultKind, Flow, Link, Pipe, close
from locksmith.testing.servers.ports import HOST, Port

ANSWER_SECONDS: Final = 10.0

Target = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


class ProxyFailed(LocksmithError):
    """The proxy is closed, or its thread does not answer: make a new one."""


class Proxy:
    """Forwards connections to `target`, and breaks what a test wants broken.

        with RedisServer() as server, Proxy(server.address) as proxy:
            client = locksmith.connect(proxy.through(server.url))
            proxy.to_server.delay = 0.2             # seconds, each way on its own
            proxy.to_client.stalled = True          # a one-way partition; False lets the kept bytes go on
            proxy.black_hole(); proxy.heal()        # both ways; and everything as it was
            proxy.lose_reply(matching=b"EVALSHA")   # the server acts, its next reply is lost with the connection
            proxy.lose_request()                    # the server never hears of it
            held = proxy.hold_request(); held.wait(); held.release()    # it arrives late, also after the client left
            proxy.drop(); proxy.reset()             # end all connections: FIN, or RST
            proxy.refuse(); proxy.accept()          # new connections

    A "request" is what arrives from a client in one read, a "reply" the first bytes from the server after it; other
    bytes from the server are a "push". That fits clients that do not pipeline and messages of less than 64 KiB. Faults
    happen once each, in the order in which they were asked for, and have `fired` before anybody notices. All of it
    runs in one thread, and every call returns when it has taken effect. A proxy does nothing in a process forked from
    its own.
    """

    def __init__(self, target: Target) -> None:
        self.target: Target = target
        """Where new connections go; may be changed."""
        self.accepted = 0
        """Connections ever accepted."""
        self.requests = 0
        """Requests ever seen."""
        self._port = Port()
        self._links: list[Link] = []
        self._faults: list[Fault] = []
        self._calls: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._closed = False
        self._creator = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._listen()
        self.to_server = Flow(self._wake)
        """The direction from clients to the server."""
        self.to_client = Flow(self._wake)
        """The direction from the server to clients."""
        self._thread = threading.Thread(target=self._run, name="locksmith-proxy", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ where it is

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        return HOST, self._port.number

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return sum(not (link.client_left or link.up.ended) for link in tuple(self._links))

    def through(self, url: str) -> str:
        """The URL with the proxy's address in place of its own; user, path and options stay."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}{HOST}:{self._port.number}"))

    # ------------------------------------------------------------------ what it breaks

    def black_hole(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Let nothing through in these directions; nobody is told. New connections open, and hear nothing."""
        self.to_server.stalled = self.to_server.stalled or to_server
        self.to_client.stalled = self.to_client.stalled or to_client

    def heal(self) -> None:
        """Back to a network without faults: no delay, rate or stall, new connections welcome, no fault waiting.

        Held requests travel on. What was lost stays lost.
        """
        self._call(self._heal)

    def drop(self) -> None:
        """End all connections with a FIN. The server still gets what was on its way to it; its replies are lost."""
        self._call(lambda: self._each(lambda link: self._leave(link, reset=False)))

    def reset(self) -> None:
        """End all connections with a RST, both ends. What was on its way is lost."""
        self._call(lambda: self._each(lambda link: self._cut(link, reset=True)))

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        self._call(self._unlisten)

    def accept(self) -> None:
        """Accept new connections again, on the same port."""
        self._call(self._listen)

    def lose_request(self, nth: int = 1, *, matching: bytes | None = None, reset: bool = False) -> Fault:
        """End the connection instead of forwarding the `nth` request (that has the bytes `matching`) from now on."""
        return self._arm("lose_request", nth, matching, reset=reset)

    def lose_reply(self, nth: int = 1, *, matching: bytes | None = None, reset: bool = False) -> Fault:
        """Forward the `nth` request (that has the bytes `matching`), and end the connection instead of its reply."""
        return self._arm("lose_reply", nth, matching, reset=reset)

    def hold_request(self, nth: int = 1, *, matching: bytes | None = None) -> Fault:
        """Keep the `nth` request (that has the bytes `matching`) on its way until the fault's `release`.

        It reaches the server then, whether or not its sender still waits.
        """
        return self._arm("hold_request", nth, matching)

    def lose_push(self, nth: int = 1, *, matching: bytes | None = None) -> Fault:
        """Swallow the `nth` push (that has the bytes `matching`); the connection goes on as if it had not been sent."""
        return self._arm("lose_push", nth, matching)

    def close(self) -> None:
        """End all connections and the thread. Safe to repeat; does nothing in a process that was forked."""
        if self._closed or os.getpid() != self._creator:
            return
        self._closed = True
        self._wake()
        self._thread.join(ANSWER_SECONDS)
        self._port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------ from the test's thread

    def _arm(self, kind: FaultKind, nth: int, matching: bytes | None, *, reset: bool = False) -> Fault:
        if nth < 1:
            raise ValueError(f"faults count from 1, not from {nth}")
        fault = Fault(kind, nth, matching, reset, self._released)
        self._call(lambda: self._faults.append(fault))
        return fault

    def _released(self, fault: Fault) -> None:
        self._call(lambda: self._let_go(fault))

    def _call(self, function: Callable[[], None]) -> None:
        """Run it in the proxy's thread, and return when that is done."""
        if self._closed or os.getpid() != self._creator:
            raise ProxyFailed("this proxy is closed, or belongs to the process that forked this one")
        done = threading.Event()
        self._calls.append((function, done))
        self._wake()
        if not done.wait(ANSWER_SECONDS):
            raise ProxyFailed(f"the proxy's thread did not answer within {ANSWER_SECONDS:g} s")

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full means that it is about to wake up anyway
            self._wake_in.send(b"!")

    # ------------------------------------------------------------------ in the proxy's thread

    def _run(self) -> None:
        try:
            while not self._closed:
                self._step()
        finally:
            self._each(lambda link: self._cut(link, reset=False))
            self._unlisten()
            self._selector.close()
            self._wake_in.close()
            self._wake_out.close()

    def _step(self) -> None:
        due = min((pipe.wakes_at() for link in self._links for pipe in link.pipes()), default=math.inf)
        pause = None if due == math.inf else max(0.0, due - time.monotonic())
        for key, events in self._selector.select(pause):
            if key.fileobj is self._wake_out:
                self._wake_out.recv(4096)
            elif key.fileobj is self._listener:
                self._welcome()
            elif events & selectors.EVENT_READ:
                self._read(*key.data)
        self._obey()
        for link in tuple(self._links):
            self._flush(link)

    def _obey(self) -> None:
        while self._calls:
            function, done = self._calls.popleft()
            function()
            done.set()

    def _welcome(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it left before we looked
        self.accepted += 1
        server = socket.socket(socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET)
        for end in (client, server):
            end.setblocking(False)
            if end.family == socket.AF_INET:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Not waited for: a server that stands still must not stop the proxy. What fails is seen by the first read.
        server.connect_ex(self.target)
        self._links.append(Link(client, server, self.to_server, self.to_client))

    def _read(self, link: Link, pipe: Pipe) -> None:
        if link not in self._links or not pipe.hungry or (link.client_left and pipe is link.down):
            return
        try:
            data = pipe.source.recv(pipe.piece())
        except BlockingIOError:
            return
        except OSError:
            self._broken(link, pipe.source)
            return
        if not data:
            pipe.put(b"", time.monotonic())
        elif pipe is link.up:
            self._request(link, data)
        else:
            self._response(link, data)

    def _request(self, link: Link, data: bytes) -> None:
        self.requests += 1
        link.asked = True
        fault = self._take(("lose_request", "hold_request", "lose_reply"), data)
        if fault is None:
            link.up.put(data, time.monotonic())
        elif fault.kind == "lose_request":
            fault.fire()
            self._leave(link, reset=fault.reset)
        elif fault.kind == "hold_request":
            link.up.put(data, time.monotonic(), fault)
            fault.fire()
        else:
            link.swallow = fault
            link.up.put(data, time.monotonic())

    def _response(self, link: Link, data: bytes) -> None:
        asked, link.asked = link.asked, False
        if asked and link.swallow is not None:
            fault, link.swallow = link.swallow, None
            fault.fire()
            self._leave(link, reset=fault.reset)
            return
        fault_of_push = None if asked else self._take(("lose_push",), data)
        if fault_of_push is not None:
            fault_of_push.fire()
            return
        link.down.put(data, time.monotonic())

    def _take(self, kinds: tuple[FaultKind, ...], data: bytes) -> Fault | None:
        """The first fault of these kinds whose time has come with these bytes."""
        # All of them count these bytes; where several are due, the others take the next ones.
        due = [fault for fault in self._faults if fault.kind in kinds and fault.due(data)]
        self._faults = [fault for fault in self._faults if fault not in due[:1] and not fault.cancelled]
        return due[0] if due else None

    def _flush(self, link: Link) -> None:
        for pipe in link.pipes():
            try:
                pipe.flush(time.monotonic())
            except OSError:
                self._broken(link, pipe.sink)
                return  # what the other pipe has is flushed when the selector says so
        if link.over:
            self._cut(link, reset=False)
        else:
            self._watch(link)

    def _broken(self, link: Link, end: socket.socket) -> None:
        """One end is gone. The server still gets what was on its way; a client learns of a dead server by a RST."""
        if end is link.client:
            self._leave(link, reset=False)
        else:
            self._cut(link, reset=True)

    def _leave(self, link: Link, *, reset: bool) -> None:
        if not link.client_left:
            self._register(link.client, 0, (link, link.up))
            link.leave(reset=reset, now=time.monotonic())
            self._watch(link)

    def _cut(self, link: Link, *, reset: bool) -> None:
        self._links.remove(link)
        if not link.client_left:
            self._register(link.client, 0, (link, link.up))
        self._register(link.server, 0, (link, link.down))
        link.cut(reset=reset)

    def _watch(self, link: Link) -> None:
        """Tell the selector what this link waits for."""
        wanted = {link.server: 0} if link.client_left else {link.client: 0, link.server: 0}
        for pipe in link.pipes():
            if pipe.hungry:
                wanted[pipe.source] |= selectors.EVENT_READ
            if pipe.blocked:
                wanted[pipe.sink] |= selectors.EVENT_WRITE
        for end, events in wanted.items():
            self._register(end, events, (link, link.up if end is link.client else link.down))

    def _register(self, end: socket.socket, events: int, data: tuple[Link, Pipe]) -> None:
        known = self._selector.get_map().get(end)
        if known is None and events:
            self._selector.register(end, events, data)
        elif known is not None and not events:
            self._selector.unregister(end)
        elif known is not None and known.events != events:
            self._selector.modify(end, events, data)

    def _each(self, end: Callable[[Link], None]) -> None:
        for link in tuple(self._links):
            end(link)

    def _let_go(self, fault: Fault) -> None:
        for link in self._links:
            if link.up.held is fault:
                link.up.unhold(time.monotonic())

    def _heal(self) -> None:
        self._faults.clear()
        self.to_server.heal()
        self.to_client.heal()
        for link in self._links:
            link.swallow = None
            link.up.unhold(time.monotonic())
            link.down.unhold(time.monotonic())
        self._listen()

    def _listen(self) -> None:
        """On a port that stays ours while nobody listens on it."""
        if self._listener is not None:
            return
        self._listener = socket.create_server(self.address, backlog=512)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            close(self._listener)
            self._listener = None
