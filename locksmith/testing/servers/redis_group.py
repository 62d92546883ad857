"""Several redis-servers that belong together: started, asked and removed as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, urlencode

from locksmith.testing.servers.base import ServerFailed
from locksmith.testing.servers.certificates import Certificates
from locksmith.testing.servers.redis import RedisServer

_PAUSE: Final = 0.02


class RedisGroup:
    """Redis-servers with one life: `start` or `with` begins it, `close` ends it. Each can be killed on its own."""

    settle_seconds: float = 40.0
    """How long the servers may take to agree with each other."""

    def __init__(self, *, tls: bool = False) -> None:
        self.tls = tls
        self._stack = ExitStack()
        self._started = False
        self._certificates: Certificates | None = None

    def start(self) -> Self:
        """Start them all, and return when they work together.

        Raises:
            ServerMissing: redis-server is not installed; the message has the line that installs it.
            ServerFailed: one did not start, or they did not agree in time.
        """
        if self._started:
            raise ServerFailed(f"{self!r} runs already")
        self._started = True
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End them all and remove their data. Safe to repeat."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self if self._started else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _start(self) -> None:
        raise NotImplementedError

    def _run(self, server: RedisServer) -> RedisServer:
        # Those of the first one serve for all: whoever trusts it trusts the others.
        if self._certificates is not None:
            server.share(self._certificates)
        self._stack.enter_context(server)
        if self.tls:
            self._certificates = server.certificates
        return server

    def _url(self, kind: str, servers: Sequence[RedisServer], password: str | None, path: str, **more: object) -> str:
        scheme = f"{'rediss' if self.tls else 'redis'}+{kind}"
        secret = f":{quote(password, safe='')}@" if password else ""
        options = {**servers[0].tls_options(), **more}
        return f"{scheme}://{secret}{hosts(servers)}{path}{f'?{urlencode(options)}' if options else ''}"

    def _until(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait for what the servers bring about between themselves; there is no event for it."""
        deadline = time.monotonic() + self.settle_seconds
        while not _true(ready):
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self!r}: {what} did not happen within {self.settle_seconds:g} s")
            time.sleep(_PAUSE)


def _true(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except OSError:
        return False


def hosts(servers: Sequence[RedisServer]) -> str:
    """Their addresses as a URL lists them: host:port,host:port."""
    return ",".join(f"{server.host}:{server.port}" for server in servers)


class RedisNodes(RedisGroup):
    """Independent redis-servers, as the quorum store uses them: none knows of the others."""

    def __init__(self, count: int = 3, *, password: str | None = None, tls: bool = False) -> None:
        super().__init__(tls=tls)
        self.password = password
        self.nodes = [RedisServer(password=password, tls=tls) for _ in range(count)]

    def _start(self) -> None:
        for node in self.nodes:
            self._run(node)

    @property
    def url(self) -> str:
        """The `redis+quorum://` URL of all of them."""
        return self._url("quorum", self.nodes, self.password, "")
