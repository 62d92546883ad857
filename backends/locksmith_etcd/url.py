"""Where the members are, who we are to them, and what a channel to one of them is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from locksmith import redact
from locksmith.errors import ConfigurationError

TIMEOUT: Final = 5.0
"""Seconds a request may take, over all members that are tried."""
PORT: Final = 2379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS: Final = (*_FILES, "ssl_server_name")


@dataclass(frozen=True)
class Cluster:
    """The members of one etcd, and how to speak to them."""

    members: tuple[str, ...]
    """host:port, as gRPC takes them."""
    address: str
    """For people: no secrets."""
    timeout: float = TIMEOUT
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tls: Mapping[str, bytes] | None = field(default=None, repr=False)
    """What `grpc.ssl_channel_credentials` takes; None: no TLS."""
    server_name: str = ""
    """The name that certificates are checked for, where it is not the host of the URL."""
    channel: Any = field(default=None, repr=False)
    """A channel that belongs to the user, which is all there is then."""
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """What every request carries besides."""


def from_url(url: str) -> Cluster:
    """The cluster of a URL. Raises ConfigurationError, which never shows a secret."""
    try:
        parts = urlsplit(url)
        user, _, hosts = parts.netloc.rpartition("@")
        members = tuple(_member(host) for host in hosts.split(","))
    except ValueError:
        raise ConfigurationError(f"not a URL of etcd: {redact.url(url)}; write etcd://host1:2379,host2:2379") from None
    if parts.path.strip("/"):
        raise ConfigurationError(f"a URL of etcd has no path: {redact.url(url)}; use the setting namespace")
    options = _options(parts)
    username, _, password = (unquote(part) for part in user.partition(":"))
    if password and not username:
        raise ConfigurationError("etcd knows users by name: write etcd://user:password@host")
    return Cluster(
        members,
        f"{parts.scheme}://{','.join(members)}",
        _seconds(options.get("timeout")),
        username or options.get("username", ""),
        password or options.get("password", ""),
        _tls(options) if parts.scheme == "etcds" else None,
        options.get("ssl_server_name", ""),
    )


def from_client(client: Any, *, asynchronous: bool) -> Cluster:
    """The cluster behind a gRPC channel, or behind a client that has one. Raises ConfigurationError."""
    import grpc
    import grpc.aio

    channel = getattr(client, "channel", client)
    wanted = (grpc.Channel, grpc.aio.Channel) if asynchronous else (grpc.Channel,)
    if not isinstance(channel, wanted):
        kind = f"{type(client).__module__}.{type(client).__name__}"
        raise ConfigurationError(f"cannot use a {kind}: pass a grpc.Channel (grpc.aio.Channel only under asyncio)")
    metadata = getattr(client, "metadata", None) or ()
    return Cluster((), "etcd (your channel)", channel=channel, metadata=tuple(metadata))


def _member(text: str) -> str:
    parts = urlsplit(f"//{text}")
    host = parts.hostname
    if not host or parts.username is not None:
        raise ValueError(text)
    return f"[{host}]:{parts.port or PORT}" if ":" in host else f"{host}:{parts.port or PORT}"


def _options(parts: SplitResult) -> dict[str, str]:
    known = ("timeout", "username", "password", *(_TLS if parts.scheme == "etcds" else ()))
    found: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _TLS and name not in known:
            raise ConfigurationError(f"option {name} needs TLS, which etcd:// does not use: write etcds://")
        if name not in known:
            raise ConfigurationError(
                f"unknown option {name!r} in a {parts.scheme}:// URL; known are {', '.join(known)}"
            )
        if name in found:
            raise ConfigurationError(f"option {name!r} is given twice in a {parts.scheme}:// URL: once, please")
        found[name] = value
    return found


def _seconds(text: str | None) -> float:
    if text is None:
        return TIMEOUT
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigurationError(f"option 'timeout' is a positive number of seconds, not {text!r}")
    return value


def _tls(options: Mapping[str, str]) -> dict[str, bytes]:
    content: dict[str, bytes] = {}
    for name in _FILES:
        if name in options:
            try:
                content[name] = Path(options[name]).read_bytes()
            except OSError as error:
                raise ConfigurationError(f"option {name!r}: {error.strerror}: {options[name]!r}") from None
    if ("ssl_certfile" in content) != ("ssl_keyfile" in content):
        raise ConfigurationError("a certificate and its key belong together: give ssl_certfile and ssl_keyfile")
    return content
