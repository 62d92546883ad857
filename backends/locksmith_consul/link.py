"""Connections for requests, blocking: a stack of held ones, so that threads that ask at once each have their own.

This is what py-consul calls an HTTP client, plugged in under it: its own opens the door anew for much of what it does,
which costs more than all the rest of a request.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from consul import base as driver

from locksmith.errors import ClientClosed
from locksmith_consul.http import Reply, request
from locksmith_consul.url import Server
from locksmith_consul.wire import Wire

KEPT: Final = 64
"""Idle connections kept of a moment when many threads asked at once."""
DEAD: Final = (ConnectionError, ssl.SSLError)
"""What a connection raises that died while it was idle."""
_escrow: Final[list[object]] = []
"""Connections inherited by a fork, kept for ever: collecting one would speak on the parent's socket."""

Callback = Callable[[Any], Any]


class Hook(driver.HTTPClient):  # type: ignore[misc]  # py-consul says nothing about its types
    """py-consul's four verbs over one method. Which headers py-consul wants said does not matter: all are said."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.host, server.port, "https" if server.tls else "http")
        self.server = server
        self._headers = server.headers

    def ask(self, method: str, target: str, body: bytes = b"", seconds: float | None = None) -> Any:
        """Send one request; its Reply, or in asyncio a coroutine for it. Raises OSError and NotHttp.

        A connection that had been idle may have died unnoticed: then the request is sent again, once, on a new one.
        A timeout is not such a death.
        """
        raise NotImplementedError

    def called(self, callback: Callback, reply: Any) -> Any:
        """What py-consul makes of a reply."""
        return callback(reply)

    def _verb(self, verb: str, callback: Callback, path: str, params: Any = None, data: Any = "") -> Any:
        target = f"{path}?{urlencode(params)}" if params else path
        body = data.encode() if isinstance(data, str) else data
        return self.called(callback, self.ask(verb, target, body))

    def get(self, callback: Callback, path: str, params: Any = None, **_: Any) -> Any:
        """See HTTPClient."""
        return self._verb("GET", callback, path, params)

    def put(self, callback: Callback, path: str, params: Any = None, data: Any = "", **_: Any) -> Any:
        """See HTTPClient."""
        return self._verb("PUT", callback, path, params, data)

    def delete(self, callback: Callback, path: str, params: Any = None, data: Any = "", **_: Any) -> Any:
        """See HTTPClient."""
        return self._verb("DELETE", callback, path, params, data)

    def post(self, callback: Callback, path: str, params: Any = None, data: Any = "", **_: Any) -> Any:
        """See HTTPClient."""
        return self._verb("POST", callback, path, params, data)

    def payload(self, method: str, target: str, body: bytes = b"") -> bytes:
        """A request as it is sent."""
        return request(self._headers, method, target, body)


class Link(Hook):
    """The connections of one blocking client."""

    def __init__(self, server: Server, now: Callable[[], float]) -> None:
        super().__init__(server)
        self._now = now
        self._idle: list[Wire] = []
        self._closed = False

    def ask(self, method: str, target: str, body: bytes = b"", seconds: float | None = None) -> Reply:
        """See Hook.ask."""
        limit = self.server.timeout if seconds is None else min(seconds, self.server.timeout)
        return self._exchange(self.payload(method, target, body), limit)

    def wait(self, target: str, seconds: float) -> Reply:
        """The reply to a blocking query, which may take longer than a request may. Raises OSError and NotHttp."""
        return self._exchange(self.payload("GET", target), seconds)

    def _exchange(self, payload: bytes, seconds: float) -> Reply:
        wire = self.idle()
        if wire is None:
            return self._ask(self.open(seconds), payload, seconds, again=False)
        try:
            return self._ask(wire, payload, seconds, again=False)
        except DEAD:
            self.drop_idle()
        return self._ask(self.open(seconds), payload, seconds, again=True)

    def _ask(self, wire: Wire, payload: bytes, seconds: float, *, again: bool) -> Reply:
        since = self._now()
        try:
            reply = wire.ask(payload, seconds, since, again=again)
        except BaseException:
            # Also KeyboardInterrupt: the reply may come yet, and must not be taken for that of the next request.
            wire.close()
            raise
        self.keep(wire, reply)
        return reply

    def idle(self) -> Wire | None:
        """A connection that was used before, to be given back to `keep` or closed."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def open(self, seconds: float) -> Wire:
        """A new connection. Raises OSError."""
        if self._closed:
            raise ClientClosed("this store was closed: connect again")
        return Wire(self.server, min(seconds, self.server.timeout))

    def keep(self, wire: Wire, reply: Reply) -> None:
        """A connection whose last request was answered by this."""
        if reply.lasts and len(self._idle) < KEPT and not self._closed:
            self._idle.append(wire)
        else:
            wire.close()

    def drop_idle(self) -> None:
        """Close what is idle now."""
        # What killed one idle connection has killed the others too; each would cost its next user a second try.
        while (wire := self.idle()) is not None:
            wire.close()

    async def end(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        self._closed = True
        self.drop_idle()

    def close(self) -> None:
        """See HTTPClient: for py-consul's `with`, which we do not use."""

    def after_fork(self) -> None:
        """See Store.after_fork."""
        keep_for_ever(self._idle)
        self._idle = []


def keep_for_ever(what: object) -> None:
    """Never let go of this, so that nothing closes it."""
    _escrow.append(what)
