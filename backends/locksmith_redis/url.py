"""From a URL, or a client that the user has, to the settings of redis-py's connections."""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import redis
import redis.asyncio

from locksmith import redact
from locksmith.errors import ConfigurationError
from locksmith_redis.server import Server

TIMEOUT: Final = 5.0
"""Seconds a connection may take to open, and a reply to arrive."""

_PLAIN: Final = ("db", "timeout", "socket_timeout", "socket_connect_timeout", "client_name", "username", "password")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS: Final = (
    "ssl_cert_reqs",
    *_FILES,
    "ssl_ca_path",
    "ssl_ca_data",
    "ssl_check_hostname",
    "ssl_password",
    "ssl_min_version",
    "ssl_ciphers",
)
_UNIX: Final = ("virtual_host",)
# What kombu's users write, and redis-py's.
_CERT_REQS: Final = {"required": "required", "optional": "optional", "none": "none"} | {
    f"cert_{word}": word for word in ("required", "optional", "none")
}
# A silent subscriber cannot tell a silent server from a dead one; the kernel finds out within a minute.
_KEEPALIVE: Final[Mapping[str, Any]] = {
    "socket_keepalive": True,
    "socket_keepalive_options": {
        getattr(socket, name): value
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    },
}
_YES: Final = frozenset({"true", "yes", "y", "t", "1", "on"})
_NO: Final = frozenset({"false", "no", "n", "f", "0", "off"})
# Settings of a user's client that would change what a connection of ours does: it retries by our rules, and speaks
# RESP2 in bytes. The rest, redis-py's bookkeeping for its pools included, stays with their client.
_NOT_OURS: Final = (
    "connection_pool",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "decode_responses",
    "encoding",
    "encoding_errors",
    "health_check_interval",
    "himport_registry",
    "event_dispatcher",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
    "oss_cluster_maint_notifications_handler",
    "maintenance_state",
    "maintenance_notification_hash",
    "orig_host_address",
    "orig_socket_timeout",
    "orig_socket_connect_timeout",
    "command_packer",
    "encoder_class",
)


def from_url(url: str, *, asynchronous: bool) -> Server:
    """The server of a URL. Raises ConfigurationError, which never shows a secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 6379
    except ValueError:
        raise ConfigurationError(f"not a URL of Redis: {redact.url(url)}; write redis://host:6379/0") from None
    scheme = parts.scheme
    options = read_options(parts)
    tls = scheme == "rediss"
    server = base(parts.username, parts.password, options, tls=tls, asynchronous=asynchronous)
    if scheme == "redis+unix":
        settings = {name: value for name, value in server.settings.items() if name not in _KEEPALIVE}
        settings |= {"path": unquote(parts.path), "db": database(options.get("db", options.get("virtual_host", "0")))}
        if parts.netloc.rpartition("@")[2] or len(parts.path) < 2:
            raise ConfigurationError("write redis+unix:///path/to/redis.sock?db=0: three slashes, then the path")
        module: Any = redis.asyncio.connection if asynchronous else redis.connection
        address = f"redis+unix://{settings['path']}?db={settings['db']}"
        return Server(module.UnixDomainSocketConnection, settings, address, server.timeout)
    db = database(options.get("db") or parts.path.strip("/") or "0")
    return replace(server, settings={**server.settings, "db": db}).at(unquote(host), port)


def base(
    username: str | None,
    password: str | None,
    options: Mapping[str, str],
    *,
    tls: bool,
    asynchronous: bool,
    timeout: float = TIMEOUT,
) -> Server:
    """What the options and credentials of a URL say of connections; nothing yet of where they lead."""
    settings: dict[str, Any] = dict(_KEEPALIVE)
    timeout = seconds("timeout", options, timeout)
    settings["socket_timeout"] = seconds("socket_timeout", options, timeout)
    settings["socket_connect_timeout"] = seconds("socket_connect_timeout", options, timeout)
    for name, place in (("username", username), ("password", password)):
        value = unquote(place) if place else options.get(name)
        if value:
            settings[name] = value
    if "client_name" in options:
        settings["client_name"] = options["client_name"]
    if tls:
        settings |= _tls(options)
    module: Any = redis.asyncio.connection if asynchronous else redis.connection
    return Server(module.SSLConnection if tls else module.Connection, settings, "", settings["socket_timeout"])


def from_client(client: object, *, asynchronous: bool) -> Server:
    """The server of a client of redis-py. Raises ConfigurationError for what is not one, or of the other colour."""
    wanted, other = redis.Redis, redis.asyncio.Redis
    if asynchronous:
        wanted, other = other, wanted  # type: ignore[assignment]
    if isinstance(client, other):
        raise ConfigurationError(
            "the asyncio client takes a redis.asyncio.Redis; for a redis.Redis use locksmith.connect"
            if asynchronous
            else "the blocking client takes a redis.Redis; for a redis.asyncio.Redis use locksmith.aio.connect"
        )
    if not isinstance(client, wanted):
        raise ConfigurationError(
            f"cannot use a {type(client).__module__}.{type(client).__name__}: pass a redis.Redis"
            " (redis.asyncio.Redis under asyncio) for one server, or a URL"
        )
    return of_pool(client.connection_pool)


def of_pool(pool: Any, connection_class: type[Any] | None = None) -> Server:
    """The server that a pool of redis-py leads to, with the pool's settings."""
    return of_settings(connection_class or pool.connection_class, pool.connection_kwargs)


def of_settings(wanted: type[Any], theirs: Mapping[str, Any]) -> Server:
    """The server that such connections of redis-py lead to."""
    settings = {name: value for name, value in theirs.items() if name not in _NOT_OURS}
    if "path" not in settings:
        settings |= _KEEPALIVE
    timeout = settings.get("socket_timeout") or TIMEOUT
    settings["socket_timeout"] = timeout
    settings["socket_connect_timeout"] = settings.get("socket_connect_timeout") or timeout
    return Server(wanted, settings, _address(wanted, settings), float(timeout))


def _address(connection_class: type[Any], settings: Mapping[str, Any]) -> str:
    db = settings.get("db") or 0
    if "path" in settings:
        return f"redis+unix://{settings['path']}?db={db}"
    scheme = "rediss" if "SSL" in connection_class.__name__ else "redis"
    return f"{scheme}://{settings.get('host', 'localhost')}:{settings.get('port', 6379)}/{db}"


def read_options(parts: SplitResult, more: Sequence[str] = ()) -> dict[str, str]:
    """The options of a URL, each known (or one of `more`) and said once. Raises ConfigurationError."""
    tls = parts.scheme.startswith("rediss")
    known = (*_PLAIN, *more, *(_TLS if tls else _UNIX if parts.scheme == "redis+unix" else ()))
    found: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _TLS and name not in known:
            wanted = parts.scheme.replace("redis", "rediss", 1).replace("+unix", "")
            raise ConfigurationError(
                f"option {name} needs TLS, which {parts.scheme}:// does not use: write {wanted}://"
            )
        if name not in known:
            raise ConfigurationError(
                f"unknown option {name!r} in a {parts.scheme}:// URL; known are {', '.join(known)}"
            )
        if name in found:
            raise ConfigurationError(f"option {name!r} is given twice in a {parts.scheme}:// URL: once, please")
        found[name] = value
    return found


def seconds(name: str, options: Mapping[str, str], default: float) -> float:
    """An option that is a duration. Raises ConfigurationError."""
    if name not in options:
        return default
    try:
        value = float(options[name])
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigurationError(f"option {name!r} is a positive number of seconds, not {options[name]!r}")
    return value


def database(text: str) -> int:
    """The number of a database. Raises ConfigurationError."""
    text = text.strip("/")
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"the database of a redis:// URL is a number, as in redis://host:6379/0, not {text!r}")
    return int(text)


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {name: options[name] for name in _TLS if name in options}
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise ConfigurationError(f"option {name!r}: there is no file {options[name]!r}")
    reqs = options.get("ssl_cert_reqs", "required").lower()
    if reqs not in _CERT_REQS:
        raise ConfigurationError(f"option 'ssl_cert_reqs' is required, optional or none, not {reqs!r}")
    settings["ssl_cert_reqs"] = _CERT_REQS[reqs]
    verify = _CERT_REQS[reqs] != "none"
    # Said outright, because redis-py 5 does not look at the host name unless it is told to.
    settings["ssl_check_hostname"] = verify and _truth("ssl_check_hostname", options, default=True)
    if "ssl_min_version" in options:
        settings["ssl_min_version"] = _tls_version(options["ssl_min_version"])
    return settings


def _truth(name: str, options: Mapping[str, str], *, default: bool) -> bool:
    text = options.get(name, "").lower()
    if not text:
        return default
    if text not in _YES | _NO:
        raise ConfigurationError(f"option {name!r} is true or false, not {text!r}")
    return text in _YES


def _tls_version(text: str) -> ssl.TLSVersion:
    try:
        return ssl.TLSVersion(int(text)) if text.isdigit() else ssl.TLSVersion[text.replace(".", "_")]
    except (KeyError, ValueError):
        raise ConfigurationError(f"option 'ssl_min_version' is TLSv1_2 or TLSv1_3, not {text!r}") from None
