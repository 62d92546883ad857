"""The settings of one RateLimited task: its attributes, and what the application's configuration says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Final, TypeAlias

from locksmith import names, pacing
from locksmith.adapters.keys import KeyOf, shorten
from locksmith.celery.options import key_by
from locksmith.errors import ConfigurationError
from locksmith.recipes.permits import ALL, check_count, check_seconds

Key: TypeAlias = str | Callable[..., str] | None
_POLICIES: Final = ("fail", "run")
HOLD: Final = 300.0
"""Seconds that a message waits in a worker, at most, before it is published once more.

RabbitMQ closes the channel of a worker that has not acknowledged a message for 30 minutes, and Redis delivers it again
after an hour, unless they are told otherwise.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """One task's. `of` raises ConfigurationError for settings that cannot work."""

    task: Any
    name: str
    """What the rate limit and the semaphore are called."""
    rates: tuple[pacing.Rate, ...] | None
    cost: int
    key_of: KeyOf | None
    concurrency: int | None
    concurrency_key_of: KeyOf | None
    ttl: float | None
    on_store_error: str
    hold: float

    @classmethod
    def of(cls, task: Any, conf: Mapping[str, Any]) -> Limits:
        """What a task's class says, else what the application's configuration says."""
        kind = type(task)
        rates = _rates(kind.limit, kind.limit_burst)
        if rates is None and kind.limit_concurrency is None:
            raise ConfigurationError(
                f"{task.name} has no limit: say limit='70/s', or limit_concurrency=3, or leave base=RateLimited out"
            )
        policy = kind.limit_on_store_error or conf.get("limit_on_store_error") or "fail"
        if policy not in _POLICIES:
            raise ConfigurationError(f"limit_on_store_error is one of {', '.join(_POLICIES)}, not {policy!r}")
        name = task.name if kind.limit_name is None else kind.limit_name
        names.encode(name)
        return cls(
            task, name, rates, _cost(kind.limit_cost, rates), _key(kind, task.name, kind.limit_key),
            _concurrency(kind.limit_concurrency),
            _key(kind, task.name, _or(kind.limit_concurrency_key, kind.limit_key)),
            None if kind.limit_ttl is None else check_seconds("limit_ttl", kind.limit_ttl, positive=True),
            policy, hold_of(conf),
        )  # fmt: skip

    def semaphore_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """What the semaphore of a call is called."""
        if self.concurrency_key_of is None:
            return self.name
        return shorten(f"{self.name}:{self.concurrency_key_of(args, kwargs)}")


def hold_of(conf: Mapping[str, Any]) -> float:
    """Seconds that a message may stay with a worker: a third of the broker's patience, where that is known."""
    told = (conf.get("broker_transport_options") or {}).get("visibility_timeout")
    return min(HOLD, told / 3) if isinstance(told, int | float) and told > 0 else HOLD


def _rates(limit: object, burst: object) -> tuple[pacing.Rate, ...] | None:
    if limit is None:
        return None
    return pacing.parse([limit] if isinstance(limit, str) else list(limit), burst)  # type: ignore[call-overload]


def _cost(cost: object, rates: tuple[pacing.Rate, ...] | None) -> int:
    return check_count("limit_cost", cost, most=1 if rates is None else min(rate.most for rate in rates))


def _concurrency(limit: object) -> int | None:
    return None if limit is None else check_count("limit_concurrency", limit, most=ALL)


def _key(kind: type[Any], name: str, key: Key) -> KeyOf | None:
    return None if key is None else key_by(kind, name, key)


def _or(key: Key | EllipsisType, other: Key) -> Key:
    return other if isinstance(key, EllipsisType) else key


def limits_of(task: Any) -> Limits | None:
    """The limits of a RateLimited task; None for any other, and for none."""
    find = getattr(task, "_locksmith_limits", None)
    found = None if find is None else find()
    return found if isinstance(found, Limits) else None
