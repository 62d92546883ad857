"""Secrets out of anything that is shown: URLs in errors, logs, reprs and tables."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

HIDDEN: Final = "***"
_SHOWN_OPTIONS: Final = frozenset({"db", "mode", "timeout", "ssl_cert_reqs", "ssl_check_hostname", "wait_replicas"})
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def url(text: str) -> str:
    """The URL with user, password and every option that may be secret replaced; never raises."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "<a URL that cannot be read>"
    if not parts.scheme:
        return "<not a URL>"
    # Several hosts in one URL ("etcd://a,b") are no hostname to urlsplit; what follows the last @ is still no secret.
    place = parts.netloc.rpartition("@")[2] if "," in parts.netloc else host + (f":{port}" if port is not None else "")
    user = f"{HIDDEN}@" if "@" in parts.netloc else ""
    query = f"?{_options(parts.query)}" if parts.query else ""
    return f"{parts.scheme}://{user}{place}{parts.path}{query}"


def text(message: object) -> str:
    """A driver's message with every URL in it redacted."""
    return _URL.sub(lambda found: url(found[0]), str(message))


def _options(query: str) -> str:
    pairs = (option.partition("=") for option in query.split("&"))
    return "&".join(f"{name}={value if name in _SHOWN_OPTIONS else HIDDEN}" for name, _, value in pairs)
