"""Secrets out of anything that is shown: URLs in errors, logs, reprs and tables."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

HIDDEN: Final = "***"
_SHOWN_OPTIONS: Final = frozenset({"db", "mode", "timeout", "ssl_cert_reqs", "ssl_check_hostname", "wait_replicas"})
# What a server that does not know AUTH says of it quotes the password.
_QUOTED: Final = re.compile(r"(with args beginning with:).*", re.DOTALL)
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def url(text: str) -> str:
    """The URL with user, password and every option that may be secret replaced; never raises."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "<a URL that cannot be read>"
    if not parts.scheme or "://" not in text:
        return "<not a URL>"
    if misread(text):
        return "<a URL that cannot be read>"
    # Several hosts in one URL ("etcd://a,b") are no hostname to urlsplit; what follows the last @ is still no secret.
    place = parts.netloc.rpartition("@")[2] if "," in parts.netloc else host + (f":{port}" if port is not None else "")
    user = f"{HIDDEN}@" if "@" in parts.netloc else ""
    query = f"?{_options(parts.query)}" if parts.query else ""
    return f"{parts.scheme}://{user}{place}{parts.path}{query}"


def text(message: object) -> str:
    """A driver's message with every URL in it redacted."""
    return _QUOTED.sub(rf"\1 {HIDDEN}", _URL.sub(lambda found: url(found[0]), str(message)))


def misread(text: str) -> bool:
    """Whether a URL has an @ where none belongs: then an unescaped / ? or # has cut a password in two."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    places = [parts.path, parts.fragment, *(option.partition("=")[0] for option in parts.query.split("&"))]
    return bool(parts.netloc) and any("@" in place for place in places)


def _options(query: str) -> str:
    pairs = (option.partition("=") for option in query.split("&"))
    return "&".join(f"{name}={value if name in _SHOWN_OPTIONS else HIDDEN}" for name, _, value in pairs)
