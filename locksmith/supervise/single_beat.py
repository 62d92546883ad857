"""The variables of single-beat, where ours are absent: whoever comes from there changes the command first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from locksmith.errors import ConfigurationError

PREFIX: Final = "SINGLE_BEAT_"


def url(environment: Mapping[str, str]) -> str | None:
    """The store that single-beat would use, or None where nothing says so. Raises ConfigurationError."""
    password = environment.get(f"{PREFIX}REDIS_PASSWORD")
    if sentinels := environment.get(f"{PREFIX}REDIS_SENTINEL"):
        hosts = ",".join(part.strip() for part in sentinels.split(";") if part.strip())
        primary = quote(environment.get(f"{PREFIX}REDIS_SENTINEL_MASTER", "mymaster"), safe="")
        database = environment.get(f"{PREFIX}REDIS_SENTINEL_DB", "0")
        if environment.get(f"{PREFIX}REDIS_SENTINEL_PASSWORD"):
            raise ConfigurationError(f"{PREFIX}REDIS_SENTINEL_PASSWORD is not understood here: give --store")
        return f"redis+sentinel://{_user(password)}{hosts}/{primary}/{database}"
    server = environment.get(f"{PREFIX}REDIS_SERVER")
    if not server:
        return None
    if "://" not in server:
        server = f"redis://{server}/"
    parts = urlsplit(server)
    if parts.scheme == "unix":
        server = f"redis+{server}"
    elif password and "@" not in parts.netloc:
        server = parts._replace(netloc=_user(password) + parts.netloc).geturl()
    return server


def ttl(environment: Mapping[str, str]) -> float | None:
    """single-beat's LOCK_TIME, or None. Raises ConfigurationError."""
    said = environment.get(f"{PREFIX}LOCK_TIME")
    try:
        return float(said) if said else None
    except ValueError:
        raise ConfigurationError(f"{PREFIX}LOCK_TIME is a number of seconds") from None


def _user(password: str | None) -> str:
    return f":{quote(password, safe='')}@" if password else ""
