"""From a URL, or a client that the user has, to where a Consul agent is and how to speak to it."""

from __future__ import annotations

import math
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from consul import base as driver

from locksmith import redact
from locksmith.errors import ConfigurationError

TIMEOUT: Final = 5.0
"""Seconds a connection may take to open, and a reply to arrive."""
PORT: Final = 8500
SECURE_PORT: Final = 8501

_PLAIN: Final = ("dc", "timeout")
_TLS: Final = ("verify", "ca", "cert", "key")
_YES: Final = frozenset({"true", "yes", "1", "on"})
_NO: Final = frozenset({"false", "no", "0", "off"})
_TOKEN: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Server:
    """An agent, and what to tell it."""

    host: str
    port: int
    token: str = field(repr=False)
    dc: str
    timeout: float
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises ConfigurationError for a token that no header can carry."""
        if self.token and not _TOKEN.fullmatch(self.token):
            raise ConfigurationError("the ACL token has characters that no token of Consul's has: correct it")

    @property
    def scheme(self) -> str:
        """That of its URL."""
        return "consuls" if self.tls else "consul"

    @property
    def place(self) -> str:
        """Host and port as URLs and the Host header write them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """For people: no secrets."""
        return f"{self.scheme}://{self.place}/{f'?dc={self.dc}' if self.dc else ''}"

    @property
    def headers(self) -> bytes:
        """What every request says."""
        token = f"X-Consul-Token: {self.token}\r\n" if self.token else ""
        return f"Host: {self.place}\r\n{token}".encode("ascii")

    @property
    def query(self) -> str:
        """The parameters of every request."""
        return f"dc={quote(self.dc, safe='')}" if self.dc else ""


def from_url(url: str) -> Server:
    """The agent of a URL. Raises ConfigurationError, which never shows a secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port
    except ValueError:
        raise ConfigurationError(f"not a URL of Consul: {redact.url(url)}; write consul://host:8500") from None
    secure = parts.scheme == "consuls"
    if parts.path.strip("/"):
        raise ConfigurationError(f"a {parts.scheme}:// URL has no path: say namespace= for a place of your own")
    options = _options(parts, secure=secure)
    token = unquote(parts.password or parts.username or "") or os.environ.get("CONSUL_HTTP_TOKEN", "")
    return Server(
        unquote(host).encode("idna").decode() if not host.isascii() else unquote(host),
        port or (SECURE_PORT if secure else PORT),
        token,
        options.get("dc", ""),
        _seconds(options.get("timeout")),
        _context(_verify(options), options.get("cert"), options.get("key")) if secure else None,
    )


def from_client(client: object) -> Server:
    """The agent of a client of py-consul, of either colour: only its settings are used. Raises ConfigurationError."""
    if not isinstance(client, driver.Consul):
        raise ConfigurationError(
            f"cannot use a {type(client).__module__}.{type(client).__name__}: pass a consul.Consul, or a URL"
        )
    http: Any = client.http
    chain = http.cert if isinstance(http.cert, tuple) else (http.cert, None)
    tls = _context(http.verify, *chain) if http.scheme == "https" else None
    return Server(http.host, http.port, client.token or "", client.dc or "", TIMEOUT, tls)


def _options(parts: SplitResult, *, secure: bool) -> dict[str, str]:
    known = (*_PLAIN, *(_TLS if secure else ()))
    found: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _TLS and not secure:
            raise ConfigurationError(f"option {name} needs TLS, which consul:// does not use: write consuls://")
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


def _verify(options: Mapping[str, str]) -> bool | str:
    """As py-consul has it: whether to verify, or the file of the authorities to trust."""
    said = options.get("verify", "true").lower()
    if said not in _YES | _NO:
        raise ConfigurationError(f"option 'verify' is true or false, not {said!r}")
    if "key" in options and "cert" not in options:
        raise ConfigurationError("option 'key' goes with 'cert', the file of the certificate it belongs to")
    return options.get("ca", True) if said in _YES else False


def _context(verify: bool | str, cert: str | None, key: str | None) -> ssl.SSLContext:
    for name, path in (("ca", verify), ("cert", cert), ("key", key)):
        if isinstance(path, str) and not Path(path).exists():
            raise ConfigurationError(f"option {name!r}: there is no file {path!r}")
    try:
        if isinstance(verify, str) and Path(verify).is_dir():
            context = ssl.create_default_context(capath=verify)
        else:
            context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
        if cert:
            context.load_cert_chain(cert, key)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the TLS files of this URL cannot be used: {error}") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
