"""What happens to leases, as frozen records for one-method hooks; logging is one hook among others.

A hook is any callable that takes one record. It runs on the thread or task in which the event happened and must return
quickly. An exception in a hook is logged and goes no further. Where a client has no hook, no record is made, but of
what is logged anyway.

Records of one acquisition have one `owner`. It begins with its first record and ends with GaveUp, with Failed, or,
after Acquired, with Released or Lost; with ReleaseFailed where nobody learned more. Times are seconds by the clock of
the client; waiting and holding count suspend where the system has such a clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Final, TypeAlias

from locksmith.errors import ConfigurationError

logger: Final = logging.getLogger("locksmith")


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to an acquisition of `name` by `owner`."""

    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Queued(Event):
    """The name was taken: this claim stands in line now."""


@dataclass(frozen=True, slots=True)
class PassedOver(Event):
    """The store had not heard of this waiter for too long; it queued again, at the tail."""


@dataclass(frozen=True, slots=True)
class Acquired(Event):
    """A lease began, after `waited` seconds; `queued`: in line, because the name was not free."""

    token: int
    waited: float
    queued: bool


@dataclass(frozen=True, slots=True)
class GaveUp(Event):
    """The name was not free: a wait in line ended without a lease, or (not `queued`) one try was refused."""

    waited: float
    queued: bool


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """An acquisition ended with an exception after `waited` seconds: nothing is held. `kind` is its class's name.

    CancelledError, KeyboardInterrupt and the like are no failures of a store, but end an acquisition all the same.
    """

    waited: float
    kind: str
    error: str


@dataclass(frozen=True, slots=True)
class Renewed(Event):
    """The store has confirmed the lease, in a request that took `took` seconds and was about other leases as well.

    What a heartbeat process renews is not seen here.
    """

    token: int
    took: float


@dataclass(frozen=True, slots=True)
class RenewalFailed(Event):
    """The store could not be asked to renew the lease, for the `failures`-th time in a row. Not the end of it."""

    token: int
    took: float
    failures: int
    kind: str
    error: str


@dataclass(frozen=True, slots=True)
class Suspect(Event):
    """A renewal failed, the first in a row; the lease is good for `remaining` more seconds unless one succeeds."""

    token: int
    remaining: float
    error: str


@dataclass(frozen=True, slots=True)
class Recovered(Event):
    """A renewal succeeded after some had failed."""

    token: int


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """The lease ended before it was released, after `held` seconds. For good."""

    token: int
    reason: str
    held: float


@dataclass(frozen=True, slots=True)
class Released(Event):
    """The lease was given back after `held` seconds, or left to end by itself soon (`run_once(at_least=...)`).

    Also where a coroutine was thrown away: then the keeper is about to give it back.
    """

    token: int
    held: float


@dataclass(frozen=True, slots=True)
class ReleaseFailed(Event):
    """The store could not be asked to take the lease back; it is tried again until the ttl has ended anyway."""

    token: int
    kind: str
    error: str


@dataclass(frozen=True, slots=True)
class Unrenewed(Event):
    """No thread or task can be started any more: the lease works, but ends with its ttl."""

    token: int


Hook: TypeAlias = Callable[[Event], None]

_LEVELS: Final[dict[type[Event], int]] = {
    PassedOver: logging.INFO,
    Suspect: logging.WARNING,
    Recovered: logging.INFO,
    Lost: logging.ERROR,
    ReleaseFailed: logging.WARNING,
    Unrenewed: logging.WARNING,
}


def log(event: Event) -> None:
    """One line by the standard logger "locksmith". What somebody should know of is always logged; to have every
    acquisition in the log (at DEBUG) pass this function as a hook.
    """
    level = _LEVELS.get(type(event), logging.DEBUG)
    if logger.isEnabledFor(level):
        facts = ", ".join(f"{fact.name}={getattr(event, fact.name)!r}" for fact in fields(event)[1:])
        logger.log(level, "%s: %r (%s)", type(event).__name__, event.name, facts, extra={"locksmith_event": event})


def add_hook(hooks: list[Hook], hook: Hook) -> None:
    """Give a hook the records of whoever has this list. Raises ConfigurationError for what cannot be called."""
    if not callable(hook):
        raise ConfigurationError("each hook is a callable that takes one event")
    if hook not in hooks:
        hooks.append(hook)


def remove_hook(hooks: list[Hook], hook: Hook) -> None:
    """The opposite; nothing happens where it is not there."""
    with suppress(ValueError):
        hooks.remove(hook)


class Journal:
    """A hook that derives from this logs events in its own way, and `log` is not called beside it."""

    __slots__ = ()


def emit(hooks: Sequence[Hook], event: Event) -> None:
    """Log the event and give it to every hook. What a hook raises is logged; a BaseException passes through."""
    # A copy: somebody may remove a hook meanwhile.
    hooks = tuple(hooks)
    if not any(hook is log or isinstance(hook, Journal) for hook in hooks):
        log(event)
    for hook in hooks:
        try:
            hook(event)
        except Exception:
            logger.exception("a hook failed on %r", event)
