"""Which client a decorated function uses: found at its first call in each process, never when it is decorated."""

from __future__ import annotations

import os
import threading
from typing import Final

from locksmith.client import Client, connect
from locksmith.errors import ConfigurationError

ENV: Final = "LOCKSMITH_URL"

# One client per process and URL, shared by all functions. Those of a parent stay listed in a forked child: if they were
# collected there, their drivers would say goodbye on the parent's connections.
_shared: dict[tuple[int, str], Client] = {}
_locks: dict[int, threading.RLock] = {}


class BlockingSource:
    """Gives plain functions their client."""

    def __init__(self, client: object, store: object) -> None:
        check_settings(client, store)
        if client is not None and not isinstance(client, Client) and not callable(client):
            # Its class and not its repr: it may be a URL, with a password in it.
            raise ConfigurationError(
                f"client= is a locksmith Client, or a callable that returns one, not a {type(client).__name__}; "
                f"a URL goes into store="
            )
        self._client = client
        self._store = store
        self._found: tuple[int, Client] | None = None

    def get(self) -> Client:
        """The client. Raises ConfigurationError where nothing says which store to use."""
        pid = os.getpid()
        # A client that we or a callable made can be made again; one that was given, and closed, is an error elsewhere.
        found = self._found
        if found is not None and found[0] == pid and not found[1]._engine.closed:
            return found[1]
        # A lock for each process: one that is held during a fork stays locked in the child for ever.
        with _locks.setdefault(pid, threading.RLock()):
            if self._found is None or self._found is found:  # else another thread has found it meanwhile
                self._found = pid, self._find(pid)
            return self._found[1]

    def _find(self, pid: int) -> Client:
        if isinstance(self._client, Client):
            return self._client
        if self._client is not None:
            made = self._client()
            if not isinstance(made, Client):
                raise ConfigurationError(
                    f"client= returned a {type(made).__name__}, not the locksmith Client that a plain function needs"
                )
            return made
        url = url_of(self._store)
        client = _shared.get((pid, url))
        if client is None or client._engine.closed:
            client = _shared[pid, url] = connect(url)
        return client


def check_settings(client: object, store: object) -> None:
    """Raises ConfigurationError for settings that cannot work."""
    if client is not None and store is not None:
        raise ConfigurationError("client= and store= exclude each other: give one of them")
    if store is not None and not isinstance(store, str):
        raise ConfigurationError(
            f"store= is a URL, not a {type(store).__name__}: pass client=locksmith.connect(...) for anything else"
        )


def url_of(store: object) -> str:
    """The URL to use: the function's, or the environment's. Raises ConfigurationError where there is none."""
    url = store or os.environ.get(ENV)
    if not url:
        # No embedded default here: it would guard this host only, and nobody would notice.
        raise ConfigurationError(
            f"nothing says which store to use: set the environment variable {ENV}, for example to "
            f"redis://localhost:6379/0, or pass store=URL or client= to the decorator"
        )
    return str(url)
