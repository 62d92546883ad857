"""Which client a decorated async function uses: one per process, event loop and URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any

from locksmith.adapters.clients import check_settings, url_of
from locksmith.aio import AsyncClient, connect
from locksmith.errors import ConfigurationError


class _Loop:
    """The clients that were made for one event loop, by URL or by callable."""

    def __init__(self) -> None:
        self.clients: dict[object, AsyncClient] = {}
        self.lifetimes: list[AsyncGenerator[None, None]] = []

    async def keep(self, which: object, client: AsyncClient) -> AsyncClient:
        self.clients[which] = client
        # An async generator that was started and never ended is ended by its loop's shutdown_asyncgens(), which
        # asyncio.run() calls last: so what we opened is closed, while the loop can still do it.
        lifetime = _lifetime(client)
        await anext(lifetime)
        self.lifetimes.append(lifetime)
        return client


_loops: dict[tuple[int, asyncio.AbstractEventLoop], _Loop] = {}


class AsyncSource:
    """Gives async functions their client."""

    def __init__(self, client: object, store: object) -> None:
        check_settings(client, store)
        if client is not None and not isinstance(client, AsyncClient) and not callable(client):
            raise ConfigurationError(
                f"client= of an async function is an AsyncClient (locksmith.aio.connect), or a callable that returns "
                f"one, not a {type(client).__name__}; a URL goes into store="
            )
        self._client = client
        self._store = store
        self._url: tuple[int, str] | None = None

    async def get(self) -> AsyncClient:
        """The client of the running loop. Raises ConfigurationError where nothing says which store to use."""
        if isinstance(self._client, AsyncClient):
            return self._client
        here = _here()
        which = self._client if self._client is not None else self._find_url()
        found = here.clients.get(which)
        if found is not None and not found._engine.closed:
            return found
        if self._client is None:
            return await here.keep(which, connect(which))
        # Whoever wrote the callable may use the client elsewhere as well, and closes it.
        here.clients[which] = made = _made_by(self._client)
        return made

    def _find_url(self) -> str:
        pid = os.getpid()
        if self._url is None or self._url[0] != pid:
            self._url = pid, url_of(self._store)
        return self._url[1]


def _here() -> _Loop:
    key = os.getpid(), asyncio.get_running_loop()
    found = _loops.get(key)
    if found is None:
        for old in list(_loops):
            # A client holds on to its loop, so weak references would keep both; those of a parent are left alone.
            if old[0] == key[0] and old[1].is_closed():
                _loops.pop(old, None)
        found = _loops.setdefault(key, _Loop())
    return found


def _made_by(maker: Any) -> AsyncClient:
    make: Callable[[], object] = maker
    client = make()
    if not isinstance(client, AsyncClient):
        raise ConfigurationError(
            f"client= returned a {type(client).__name__}, not the AsyncClient that an async function needs"
        )
    return client


async def _lifetime(client: AsyncClient) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await client.close()
