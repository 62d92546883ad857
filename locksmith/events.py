"""What happens to leases, as frozen records for one-method hooks; logging is one hook among others.

A hook is any callable that takes one record. It runs on the thread or task in which the event happened and must return
quickly. An exception in a hook is logged and goes no further.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Final, TypeAlias

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
    """A lease began, after `waited` seconds."""

    token: int
    waited: float


@dataclass(frozen=True, slots=True)
class GaveUp(Event):
    """The wait ended without a lease, after `waited` seconds."""

    waited: float


@dataclass(frozen=True, slots=True)
class Suspect(Event):
    """A renewal failed; the lease is good for `remaining` more seconds unless one succeeds."""

    token: int
    remaining: float
    error: str


@dataclass(frozen=True, slots=True)
class Recovered(Event):
    """A renewal succeeded after some had failed."""

    token: int


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """The lease ended before it was released. For good."""

    token: int
    reason: str


@dataclass(frozen=True, slots=True)
class Released(Event):
    """The lease was given back after `held` seconds."""

    token: int
    held: float


@dataclass(frozen=True, slots=True)
class ReleaseFailed(Event):
    """The store could not be asked to take the lease back; it is tried again until the ttl has ended anyway."""

    token: int
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


def emit(hooks: Sequence[Hook], event: Event) -> None:
    """Log the event and give it to every hook. What a hook raises is logged; a BaseException passes through."""
    if log not in hooks:
        log(event)
    for hook in hooks:
        try:
            hook(event)
        except Exception:
            logger.exception("a hook failed on %r", event)
