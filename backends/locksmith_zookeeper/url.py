"""From a URL, or a client that the user has, to what kazoo needs to know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from kazoo.client import KazooClient
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

from locksmith import names, redact
from locksmith.errors import ConfigurationError, DriverMissing

PORT: Final = 2181
TIMEOUT: Final = 5.0
"""Seconds that a request may take, connecting included."""
_FILES: Final = ("ca", "certfile", "keyfile")
_FLAGS: Final = ("use_ssl", "verify_certs", "check_hostname")
_SASL: Final = ("sasl_mechanism", "sasl_service", "sasl_principal")
_OPTIONS: Final = ("timeout", "keyfile_password", *_FLAGS, *_FILES, *_SASL)
_YES: Final = frozenset({"true", "yes", "1", "on"})
_NO: Final = frozenset({"false", "no", "0", "off"})
_EXAMPLE: Final = "write zookeeper://host1:2181,host2:2181/path"


@dataclass(frozen=True)
class Server:
    """Where the ensemble is and who we are to it."""

    hosts: tuple[tuple[str, int], ...]
    chroot: str
    timeout: float = TIMEOUT
    auth: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    sasl: Mapping[str, Any] | None = field(default=None, repr=False)
    tls: Mapping[str, Any] = field(default_factory=dict, repr=False)
    acl: Any = field(default=tuple(OPEN_ACL_UNSAFE), repr=False)

    @property
    def address(self) -> str:
        """For people."""
        places = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"zookeeper://{places}{self.chroot}"

    def root(self, namespace: str) -> str:
        """The node below which a namespace keeps everything."""
        # "~" alone is the key of no name.
        key = names.encode(namespace) if namespace else "~"
        if key == "zookeeper" and not self.chroot:
            raise ConfigurationError(
                "/zookeeper belongs to the server: choose another namespace, or give the URL a path"
            )
        return f"{self.chroot}/{key}"


def from_url(url: str) -> Server:
    """The ensemble of a URL. Raises ConfigurationError, which never shows a secret."""
    try:
        parts = urlsplit(url)
        who, at, places = parts.netloc.rpartition("@")
        hosts = tuple(_host(place) for place in places.split(",")) if places else (("localhost", PORT),)
    except ValueError:
        raise ConfigurationError(f"not a URL of ZooKeeper: {redact.url(url)}; {_EXAMPLE}") from None
    options = _read_options(parts.query)
    auth, acl = _credentials(who if at else "", options)
    return Server(
        hosts,
        _chroot(unquote(parts.path)),
        _seconds(options),
        auth=auth if "sasl_mechanism" not in options else (),
        sasl=_sasl(auth, options),
        tls=_tls(options),
        acl=acl,
    )


def from_client(client: object) -> Server:
    """The ensemble that a kazoo client talks to, with its settings. Raises ConfigurationError."""
    if not isinstance(client, KazooClient):
        raise ConfigurationError(f"pass a kazoo.client.KazooClient, not a {type(client).__name__}")
    tls = {
        name: getattr(client, name) for name in (*_FILES, *_FLAGS, "keyfile_password") if getattr(client, name, None)
    }
    if client.use_ssl and not client.verify_certs:
        tls["verify_certs"] = False
    acl = tuple(client.default_acl) if client.default_acl else tuple(OPEN_ACL_UNSAFE)
    sasl = client._connection.sasl_options
    return Server(tuple(client.hosts), client.chroot, auth=tuple(client.auth_data), sasl=sasl, tls=tls, acl=acl)


def _host(place: str) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError(place)
    return parts.hostname, parts.port or PORT


def _chroot(path: str) -> str:
    steps = [step for step in path.split("/") if step]
    if any(step in (".", "..") or "\0" in step for step in steps) or steps[:1] == ["zookeeper"]:
        raise ConfigurationError(f"not a path that ZooKeeper can have: {path!r}; {_EXAMPLE}")
    return "".join(f"/{step}" for step in steps)


def _read_options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise ConfigurationError(f"unknown option {name!r} in a URL of ZooKeeper; there are {', '.join(_OPTIONS)}")
    return options


def _seconds(options: Mapping[str, str]) -> float:
    try:
        seconds = float(options.get("timeout", TIMEOUT))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigurationError("the option timeout is a number of seconds greater than 0")
    return seconds


def _credentials(who: str, options: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], Any]:
    if not who:
        return (), tuple(CREATOR_ALL_ACL if "sasl_mechanism" in options else OPEN_ACL_UNSAFE)
    user, colon, password = who.partition(":")
    if not (user and colon and password):
        raise ConfigurationError("ZooKeeper's digest authentication needs a user and a password: user:password@host")
    # What is made by somebody with a name is theirs alone.
    return (("digest", f"{unquote(user)}:{unquote(password)}"),), tuple(CREATOR_ALL_ACL)


def _sasl(auth: tuple[tuple[str, str], ...], options: Mapping[str, str]) -> dict[str, str] | None:
    if "sasl_mechanism" not in options:
        return None
    if find_spec("puresasl") is None:
        raise DriverMissing("SASL needs pure-sasl, which is not installed: pip install 'pure-sasl>=0.5.1'")
    sasl = {name.removeprefix("sasl_"): options[name] for name in _SASL if name in options}
    for _, pair in auth:
        sasl["username"], _, sasl["password"] = pair.partition(":")
    return sasl


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    tls: dict[str, Any] = {name: _flag(name, options[name]) for name in _FLAGS if name in options}
    for name in _FILES:
        if name in options:
            if not Path(options[name]).is_file():
                raise ConfigurationError(f"there is no file {options[name]!r}, which the option {name} names")
            tls[name] = options[name]
    if "keyfile_password" in options:
        tls["keyfile_password"] = options["keyfile_password"]
    if tls and not tls.get("use_ssl"):
        raise ConfigurationError("options about certificates need use_ssl=true as well")
    return tls


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise ConfigurationError(f"the option {name} is true or false")
    return text.lower() in _YES
