"""From a URL, or a client that the user has, to how connections are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import pq
from psycopg.conninfo import make_conninfo
from sqlalchemy.dialects.postgresql import psycopg as dialects

from locksmith import redact
from locksmith.errors import ConfigurationError
from locksmith_sql import url as urls

CONNECTIONS: Final = 4
"""Connections that one client makes requests on, at most: a server's are few, and a request takes moments."""
_OURS: Final = ("timeout", "connections", "pooler", "mode")
_MODES: Final = ("lease", "advisory")
_POOLER: Final = {"auto": None, "transaction": True, "none": False}
_DRIVERS: Final = ("postgresql", "postgresql+psycopg", "postgresql+psycopg_async")
_DEFAULTS: Final[Mapping[str, str]] = {
    "client_encoding": "UTF8",
    "application_name": "locksmith",
    # A silent listener cannot tell a silent server from a dead one; the kernel finds out within a minute.
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}

_DIALECT: Final[Any] = dialects.PGDialect_psycopg()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Server:
    """Where a server is and how connections to it are made."""

    attempts: tuple[bytes, ...]
    """What libpq is told, host by host."""
    address: str
    """For people: no secrets."""
    timeout: float
    connections: int = CONNECTIONS
    pooled: bool | None = None
    """Whether a transaction pooler is in between; None: find out."""
    engine: Any = None
    """A user's engine, which opens the connections then."""
    mode: str = "lease"
    """What claims are: "lease" rows, or "advisory" session locks."""

    def __repr__(self) -> str:
        return f"<Server {self.address}>"


def from_url(url: str) -> Server:
    """The server of a URL. Raises ConfigurationError, which never shows a secret."""
    parsed = urls.parse(url)
    if parsed.drivername not in _DRIVERS:
        raise ConfigurationError(f"{parsed.drivername}:// is not supported: psycopg 3 is, so write postgresql://")
    given, rest = _split(parsed)
    mode = given.get("mode", "lease")
    if mode not in _MODES:
        raise ConfigurationError(f"option 'mode' is {' or '.join(_MODES)}, not {mode!r}")
    if mode == "advisory" and given.get("pooler") == "transaction":
        raise ConfigurationError("session locks do not live behind a transaction pooler: leave mode=advisory out")
    timeout = urls.seconds("timeout", given.get("timeout"), urls.DEFAULT_TIMEOUT)
    pooler = given.get("pooler", "auto")
    if pooler not in _POOLER:
        raise ConfigurationError(f"option 'pooler' is {', '.join(_POOLER)}, not {pooler!r}")
    count = given.get("connections", str(CONNECTIONS))
    if not (count.isascii() and count.isdigit() and 0 < int(count) <= 100):
        raise ConfigurationError(f"option 'connections' is a number from 1 to 100, not {count!r}")
    try:
        _, settings = _DIALECT.create_connect_args(rest)
    except sa.exc.ArgumentError as bad:
        raise ConfigurationError(f"not a URL of PostgreSQL: {redact.text(bad)}") from None
    return Server(_attempts(settings), _address(settings), timeout, int(count), _POOLER[pooler], mode=mode)


def from_client(client: object, *, asynchronous: bool) -> Server:
    """The server of an engine or a connection that the user has. Raises ConfigurationError."""
    if isinstance(client, psycopg.Connection | psycopg.AsyncConnection):
        settings = {**client.info.get_parameters(), "password": client.info.password}
        return Server(_attempts(settings), _address(settings), urls.DEFAULT_TIMEOUT)
    url = getattr(client, "url", None)
    dialect: Any = getattr(client, "dialect", None)
    if dialect is None or not isinstance(url, sa.URL):
        raise ConfigurationError(f"PostgreSQLStore takes a URL, an engine or a psycopg connection, not {client!r:.100}")
    if dialect.name != "postgresql" or dialect.driver not in {"psycopg", "psycopg_async"}:
        raise ConfigurationError(
            f"this engine speaks {dialect.name}+{dialect.driver}: make one with postgresql+psycopg://, for psycopg 3"
        )
    if dialect.is_async and not asynchronous:
        raise ConfigurationError(
            "the blocking client takes an Engine; for an AsyncEngine use locksmith.aio.connect, or pass a URL"
        )
    _, settings = _DIALECT.create_connect_args(url)
    return Server((), _address(settings), urls.DEFAULT_TIMEOUT, engine=client)


def _split(parsed: sa.URL) -> tuple[dict[str, str], sa.URL]:
    """Our options, and the URL without them. Raises ConfigurationError for what neither we nor libpq know."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    given: dict[str, str] = {}
    for name, value in parsed.query.items():
        if name not in known and name not in _OURS:
            listed = ", ".join([*_OURS, *sorted(known - {"user", "password", "host", "port", "dbname"})])
            raise ConfigurationError(f"unknown option {name!r} in a postgresql URL; known are {listed}")
        if not isinstance(value, str) and name != "host":
            raise ConfigurationError(f"option {name!r} is given twice in a postgresql URL: once, please")
        if name in _OURS:
            given[name] = str(value)
    return given, parsed.difference_update_query(_OURS)


def _attempts(settings: Mapping[str, Any]) -> tuple[bytes, ...]:
    """One text for each host, because libpq would wait for a silent one for as long as there is time at all."""
    merged = {**_DEFAULTS, **{name: value for name, value in settings.items() if value not in {None, ""}}}
    merged.pop("connect_timeout", None)
    lists = {name: str(merged[name]).split(",") for name in ("host", "hostaddr", "port") if name in merged}
    count = max((len(values) for name, values in lists.items() if name != "port"), default=1)
    attempts = []
    for at in range(count):
        one = {name: values[at] if at < len(values) else values[-1] for name, values in lists.items()}
        try:
            attempts.append(make_conninfo("", **merged | one).encode())
        except psycopg.ProgrammingError as bad:
            raise ConfigurationError(f"libpq does not understand this: {redact.text(bad).strip()}") from None
    return tuple(attempts)


def _address(settings: Mapping[str, Any]) -> str:
    hosts = str(settings.get("host") or settings.get("hostaddr") or "localhost").split(",")
    ports = str(settings.get("port") or "5432").split(",")
    pairs = [f"{host}:{ports[at] if at < len(ports) else ports[-1]}" for at, host in enumerate(hosts)]
    return f"postgresql://{','.join(pairs)}/{settings.get('dbname') or ''}"
