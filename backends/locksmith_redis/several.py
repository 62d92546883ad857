"""URLs that name several servers: `redis+sentinel://a,b/name`, `redis+cluster://a,b`, `redis+quorum://a,b,c`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from locksmith import redact
from locksmith.errors import ConfigurationError
from locksmith_redis.server import Server
from locksmith_redis.url import TIMEOUT, base, read_options

_HIGHEST_PORT: Final = 65_535


@dataclass(frozen=True)
class Several:
    """What such a URL says."""

    hosts: list[tuple[str, int]]
    server: Server
    """How connections to the servers with data are made; `at` says to which."""
    options: Mapping[str, str]
    path: str
    """What follows the hosts, without slashes around it."""
    tls: bool


def read(
    url: str, *, asynchronous: bool, port: int, example: str, more: tuple[str, ...] = (), timeout: float = TIMEOUT
) -> Several:
    """Take such a URL apart. `more`: options that it may have besides those of one server. Raises ConfigurationError.

    `port` counts for hosts that name none.
    """
    try:
        parts = urlsplit(url)
        hosts = _hosts(parts, port)
    except ValueError:
        raise ConfigurationError(f"not a URL of several servers: {redact.url(url)}; write {example}") from None
    options = read_options(parts, more)
    tls = parts.scheme.startswith("rediss")
    user, mark, password = parts.netloc.rpartition("@")[0].partition(":")
    server = base(user, password if mark else None, options, tls=tls, asynchronous=asynchronous, timeout=timeout)
    return Several(hosts, server, options, unquote(parts.path).strip("/"), tls)


def _hosts(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    found = [_host(place, port) for place in parts.netloc.rpartition("@")[2].split(",")]
    if len(set(found)) != len(found):
        raise ConfigurationError(f"a server is named twice in a {parts.scheme}:// URL: once, please")
    return found


def _host(place: str, port: int) -> tuple[str, int]:
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        mark, number = rest[:1], rest[1:]
    else:
        host, mark, number = place.partition(":")
    if not host or mark not in ("", ":") or (mark and not (number.isascii() and number.isdigit())):
        raise ValueError(place)
    if mark:
        port = int(number)
    if not 0 < port <= _HIGHEST_PORT:
        raise ValueError(place)
    return unquote(host), port
