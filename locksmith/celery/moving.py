"""The settings of celery-singleton, for those who come from there: what they mean here, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from locksmith.adapters.keys import KeyOf, shorten
from locksmith.errors import ConfigurationError

EITHER: Final = 'give one of them, and with the phase "until_expired" singleton_ttl alone'
_REFUSED: Final = {
    "singleton_backend_class": "locks lie in the store that locksmith_url names, whichever that is",
    "singleton_backend_kwargs": "options of the connection are parts of the URL, locksmith_url",
}


def refuse(task: Any, conf: Mapping[str, Any]) -> None:
    """Raises ConfigurationError for settings that have no counterpart."""
    for name, instead in _REFUSED.items():
        if getattr(task, name, None) or conf.get(name):
            raise ConfigurationError(f"{name} is not a setting of locksmith.celery.Singleton: {instead}")


def raises(task: Any, conf: Mapping[str, Any]) -> bool | None:
    """`raise_on_duplicate` of the task, else `singleton_raise_on_duplicate`; None where neither is said."""
    said = getattr(task, "raise_on_duplicate", None)
    return conf.get("singleton_raise_on_duplicate") if said is None else said


def lock_expiry(task: Any, conf: Mapping[str, Any]) -> float | None:
    """`lock_expiry` of the task, else `singleton_lock_expiry`.

    There a lock ended after so many seconds even while its call ran; here a call that runs keeps its key, and one that
    nobody has begun gives it up.
    """
    said = getattr(task, "lock_expiry", None)
    return conf.get("singleton_lock_expiry") if said is None else said


def store_url(conf: Mapping[str, Any]) -> str | None:
    """`locksmith_url`, or `singleton_backend_url`. Raises ConfigurationError where they differ."""
    ours, theirs = conf.get("locksmith_url"), conf.get("singleton_backend_url")
    if ours and theirs and ours != theirs:
        raise ConfigurationError("locksmith_url and singleton_backend_url name different stores: keep locksmith_url")
    return ours or theirs


def prefixed(conf: Mapping[str, Any], key_of: KeyOf) -> KeyOf:
    """Keys that begin with `singleton_key_prefix`, where that is set: it keeps applications of one Redis apart."""
    prefix = conf.get("singleton_key_prefix")
    if not prefix:
        return key_of
    return lambda args, kwargs: shorten(f"{prefix}{key_of(args, kwargs)}")
