"""compat="celery-singleton": its locks in Redis are honoured, while old and new processes run side by side.

Its processes know only their key: whoever publishes sets it if it is not there, and whoever has run the call deletes
it. So a call of ours sets it too, the call whose id it has is the one that a duplicate meets, and where it is gone the
call has ended, X
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from inspect import Signature
from typing import Any, Final

from locksmith.celery.entries import Entry
from locksmith.errors import ConfigurationError
from locksmith.runtime import drive
from locksmith.store import Store

COMPAT: Final = "celery-singleton"
_SERVERS: Final = ("redis", "rediss", "redis+unix", "redis+sentinel")
_TAKE: Final = b"""
local has = redis.call('GET', KEYS[1])
if has and has ~= ARGV[1] and has ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3]) end
return 1
"""
_GIVE: Final = b"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

TheirKeyOf = Callable[[Any, Any], str]


def key_maker(task: Any, name: str, signature: Signature, conf: Mapping[str, Any]) -> TheirKeyOf | None:
    """What gives a call its key there; None without compat. Raises ConfigurationError for another compat."""
    compat = getattr(task, "singleton_compat", None) or conf.get("singleton_compat")
    if compat is None:
        return None
    if compat != COMPAT:
        raise ConfigurationError(f'singleton_compat is "{COMPAT}", whose locks are honoured, or None, not {compat!r}')
    prefix = conf.get("singleton_key_prefix", "SINGLETONLOCK_")
    unique_on = getattr(task, "unique_on", None)
    chosen = [unique_on] if isinstance(unique_on, str) else list(unique_on or ())

    def key_of(args: Any, kwargs: Any) -> str:
        if chosen:
            bound = signature.bind(*(args or ()), **(kwargs or {}))
            bound.apply_defaults()
            args, kwargs = [], {what: bound.arguments.get(what) for what in chosen}
        try:
            text = name + json.dumps(args or [], sort_keys=True) + json.dumps(kwargs or {}, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"celery-singleton has no key for these arguments of {name}: {error}") from error
        return f"{prefix}{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"

    return key_of


class Theirs:
    """Their keys in the Redis that is the store. Its methods raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._ask: Any = getattr(store, "_command", None)
        if self._ask is None or store.address.partition("://")[0] not in _SERVERS:
            raise ConfigurationError(
                f'singleton_compat="{COMPAT}" needs the Redis server that celery-singleton uses as its store, '
                f"not {store.address}"
            )

    def holder(self, key: str) -> str | None:
        """The id of the call that has it."""
        found = drive(self._ask(b"GET", key.encode()))
        return None if found is None else str(found, "utf-8", "replace")

    def take(self, key: str, task_id: str, over: str | None, expiry: float | None) -> bool:
        """Set it for this call, where nobody has it, or this call or the call `over`."""
        seconds = b"" if expiry is None else b"%d" % math.ceil(expiry)
        words = (key.encode(), task_id.encode(), (over or "").encode(), seconds)
        return bool(drive(self._ask(b"EVAL", _TAKE, b"1", *words)) == 1)

    def give(self, key: str, task_id: str) -> None:
        """Delete it, where this call has it."""
        drive(self._ask(b"EVAL", _GIVE, b"1", key.encode(), task_id.encode()))


def foreign(task_id: str, name: str) -> Entry:
    """The entry of a call that a process of theirs has published; nobody here can tell more of it."""
    return Entry(task_id, name, "kept", "celery-singleton:0", 0.0)
