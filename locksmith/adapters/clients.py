"""Which client a decorated function uses: found at its first call in each process, never when it is decorated."""

from __future__ import annotations

import os
from typing import Final

from locksmith.client import Client, connect
from locksmith.errors import ConfigurationError

ENV: Final = "LOCKSMITH_URL"

# One client per process and URL, shared by all functions. Those of a parent stay listed in a forked child: if they were
# collected there, their drivers would say goodbye on the parent's connections.
_shared: dict[tuple[int, str], Client] = {}


class BlockingSource:
    """Gives plain functions their client."""

    def __init__(self, client: object, store: object) -> None:
        check_settings(client, store)
        if client is not None and not isinstance(client, Client) and not callable(client):
            raise ConfigurationError(f"client= is a locksmith Client, or a callable that returns one, not {client!r}")
        self._client = client
        self._store = store
        self._found: tuple[int, Client] | None = None

    def get(self) -> Client:
        """The client. Raises ConfigurationError where nothing says which store to use."""
        pid = os.getpid()
        # A client that we or a callable made can be made again; one that was given, and closed, is an error elsewhere.
        if self._found is None or self._found[0] != pid or self._found[1]._engine.closed:
            self._found = pid, self._find(pid)
        return self._found[1]

    def _find(self, pid: int) -> Client:
        if isinstance(self._client, Client):
            return self._client
        if self._client is not None:
            made = self._client()
            if not isinstance(made, Client):
                raise ConfigurationError(f"client= returned {made!r}, not the locksmith Client a plain function needs")
            return made
        url = url_of(self._store)
        client = _shared.get((pid, url))
        if client is None or client._engine.closed:
            # Two threads may come here together: nothing is connected yet, so the one that is not kept costs nothing.
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
            f"run_once does not know which store to use: set the environment variable {ENV}, for example to "
            f"redis://localhost:6379/0, or pass store=URL or client= to the decorator"
        )
    return str(url)
