"""Kazoo's client as we need it: its pings are ours to allow, and its log is not the user's."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, Final, Protocol

from kazoo.client import KazooClient
from kazoo.exceptions import SessionExpiredError
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.connection import ConnectionHandler

from locksmith_zookeeper.url import Server

_log: Final = logging.getLogger("locksmith.zookeeper.kazoo")
_RETRY: Final = {"max_tries": -1, "delay": 0.05, "backoff": 2, "max_delay": 0.5}
QUIET_SHARE: Final = 0.4
"""The share of a ttl after our last word when kazoo stops to ping; with the ttl itself a silent client is dead then."""

GREETING: Final = 1.0
"""Seconds that a server may take to answer a new connection, or a sixth of a ttl; each time that it does not, twice as
long is waited the next time, up to a ttl.
"""


class Life(Protocol):
    """What a connection has to know of its session."""

    ttl: float

    def silent_for(self) -> float:
        """Seconds since our own last word to the server; 0.0 while this session has nothing to lose."""

    def negotiated(self, ttl: float, session: int) -> None:
        """Connected: what the server has made of the ttl, and the session's number."""

    def ended(self, error: Exception | None) -> None:
        """Kazoo has given up for good, for this reason. An expired session is no end: it makes a new one."""


class Connection(ConnectionHandler):  # type: ignore[misc]  # kazoo has no types
    """Kazoo's connection, which does not keep alive what we are silent about.

    Kazoo pings on a thread of its own, which runs on where our keeper is stuck or was stopped: the claims of a holder
    that has long ceased to believe in them would live for ever. So a session with claims lives by our requests, and
    pings only bridge the time between two of them.
    """

    life: Life
    _silences = 0
    """How often in a row the greeting was not answered in time."""

    def zk_loop(self) -> None:
        """Kazoo's thread."""
        try:
            super().zk_loop()
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; whoever asks next is told
            self.life.ended(error)
        else:
            self.life.ended(None)

    def _send_ping(self, connect_timeout: float) -> None:
        if self.life.silent_for() < QUIET_SHARE * self.life.ttl:
            super()._send_ping(connect_timeout)

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        # A server that starts refuses connections, and fails to close about one in ten of them (3.8.0, whose log has a
        # NullPointerException in removeCnxn for each): nobody will ever answer there. Kazoo waits for that as long as
        # the session may be silent, and then the session is gone.
        patience = min(GREETING, self.life.ttl / 6) * 2 ** min(self._silences, 10)
        try:
            return super()._invoke(min(timeout, patience), request, xid)
        except self.handler.timeout_exception:
            self._silences += 1
            raise

    def _connect(self, host: str, hostip: str, port: int) -> Any:
        if self.life.silent_for() > self.life.ttl:
            # To resume the session now would give it a whole ttl again.
            raise SessionExpiredError("silent for longer than its ttl")
        read_timeout, connect_timeout = super()._connect(host, hostip, port)
        self._silences = 0
        # Kazoo keeps two thirds of what was negotiated, in milliseconds.
        self.life.negotiated(round(read_timeout * 1.5) / 1000, self.client._session_id)
        return read_timeout, connect_timeout


class Murmur(logging.LoggerAdapter[logging.Logger]):
    """Kazoo's log: for those who debug. Lost connections are our errors' business; they quote its last warning."""

    def __init__(self) -> None:
        super().__init__(_log, {})
        self.last = ""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Everything at DEBUG."""
        if level >= logging.WARNING:
            try:
                self.last = str(msg) % args
            except (TypeError, ValueError):
                self.last = str(msg)
        if _log.isEnabledFor(logging.DEBUG):
            _log.log(logging.DEBUG, msg, *args, **kwargs)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """Warnings are wanted always."""
        return level >= logging.WARNING or _log.isEnabledFor(logging.DEBUG)

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        """As they come."""
        return msg, kwargs


def make(server: Server, ttl: float, life: Life, murmur: Murmur, *, asynchronous: bool) -> KazooClient:
    """A client with a session of its own, not started. No I/O."""
    handler = _handler(asynchronous)
    # Kazoo waits a whole session timeout for a connection, when the session would be gone.
    limit = max(0.2, min(server.timeout, ttl / (2 * len(server.hosts))))
    handler.create_connection = partial(_connect_within, handler.create_connection, limit)
    client = KazooClient(
        hosts=",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in server.hosts),
        timeout=ttl,
        handler=handler,
        auth_data=set(server.auth),
        connection_retry=_RETRY | {"sleep_func": handler.sleep_func},
        logger=murmur,
        sasl_options=dict(server.sasl) if server.sasl else None,
        **server.tls,
    )
    # The handler that the client has made itself has not been used yet.
    old = client._connection
    client._connection = Connection(client, old.retry_sleeper, logger=murmur, sasl_options=old.sasl_options)
    client._connection.life = life
    return client


def _connect_within(connect: Callable[..., Any], limit: float, *args: Any, timeout: float, **kwargs: Any) -> Any:
    return connect(*args, timeout=min(timeout, limit), **kwargs)


def _handler(asynchronous: bool) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    if not asynchronous and monkey is not None and monkey.is_module_patched("threading"):
        # On patched threads kazoo's other handler would block the loop of gevent.
        from kazoo.handlers.gevent import SequentialGeventHandler

        return SequentialGeventHandler()
    return SequentialThreadingHandler()


def monotonic() -> float:
    """The clock that kazoo goes by."""
    return time.monotonic()
