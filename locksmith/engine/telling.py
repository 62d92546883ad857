"""From what happened to a claim or a hold to the record of it, for whoever listens."""

from __future__ import annotations

from collections.abc import Sequence

from locksmith import events
from locksmith.engine.hold import Hold
from locksmith.events import Hook
from locksmith.store import Claim, Grant


def acquired(hooks: Sequence[Hook], grant: Grant, waited: float, *, queued: bool) -> None:
    """A lease began."""
    claim = grant.claim
    events.emit(hooks, events.Acquired(claim.name, claim.owner, grant.token, waited, queued))


def gave_up(hooks: Sequence[Hook], claim: Claim, waited: float, *, queued: bool) -> None:
    """An acquisition ended without a lease: refused, or its patience was over."""
    if hooks:
        events.emit(hooks, events.GaveUp(claim.name, claim.owner, waited, queued))


def failed(hooks: Sequence[Hook], claim: Claim, waited: float, error: BaseException) -> None:
    """An acquisition ended with an exception."""
    if hooks:
        events.emit(hooks, events.Failed(claim.name, claim.owner, waited, type(error).__name__, str(error)))


def renewed(hooks: Sequence[Hook], hold: Hold, took: float, *, was_suspect: bool) -> None:
    """The store has confirmed a lease."""
    claim, token = hold.grant.claim, hold.grant.token
    if hooks:
        events.emit(hooks, events.Renewed(claim.name, claim.owner, token, took))
    if was_suspect:
        events.emit(hooks, events.Recovered(claim.name, claim.owner, token))


def renewal_failed(hooks: Sequence[Hook], hold: Hold, took: float, error: Exception) -> None:
    """The store could not be asked about a lease."""
    if hooks:
        claim, kind = hold.grant.claim, type(error).__name__
        event = events.RenewalFailed(claim.name, claim.owner, hold.grant.token, took, hold.failures, kind, str(error))
        events.emit(hooks, event)


def suspect(hooks: Sequence[Hook], hold: Hold, error: Exception) -> None:
    """It is the first time in a row."""
    claim = hold.grant.claim
    events.emit(hooks, events.Suspect(claim.name, claim.owner, hold.grant.token, hold.remaining(), str(error)))


def lost(hooks: Sequence[Hook], hold: Hold) -> None:
    """A lease ended before it was given back."""
    claim = hold.grant.claim
    events.emit(hooks, events.Lost(claim.name, claim.owner, hold.grant.token, hold.reason, hold.held_for()))


def released(hooks: Sequence[Hook], hold: Hold) -> None:
    """A lease was given back."""
    if hooks:
        claim = hold.grant.claim
        held_for = hold.now() - hold.acquired_at
        events.emit(hooks, events.Released(claim.name, claim.owner, hold.grant.token, held_for))


def release_failed(hooks: Sequence[Hook], grant: Grant, error: Exception) -> None:
    """The outcome of giving back is unknown."""
    claim, kind = grant.claim, type(error).__name__
    events.emit(hooks, events.ReleaseFailed(claim.name, claim.owner, grant.token, kind, str(error)))
