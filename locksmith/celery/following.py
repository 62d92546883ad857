"""Followers: duplicates that a chain, group, chord or link relies on. They end as the call did that they duplicate."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Final

from celery import states
from celery.exceptions import SecurityError
from kombu.exceptions import ContentDisallowed, DecodeError

from locksmith.celery.ledger import Ledger
from locksmith.celery.marks import Mark
from locksmith.celery.plan import Plan
from locksmith.celery.putting_off import end_as_duplicate, put_off
from locksmith.errors import DuplicateTaskError

logger: Final = logging.getLogger("locksmith.celery")
LATER: Final = 5
"""Of the growing pauses, the one at which a backend is asked that does not answer."""
GRACE: Final = 4
"""How often a follower comes back for a result once the key is free: that is given back before the result is stored."""


def follow(plan: Plan, request: Any, mark: Mark, ledger: Ledger) -> tuple[bool, Any]:
    """(True, result of the call it duplicates), or (False, None): that has left none, so this one runs for itself.

    Raises what that call raised; Ignore where it has not ended yet, and the follower comes back.
    """
    leader = mark.after or ""
    if mark.skip:
        end_as_duplicate(plan, request, leader)
    try:
        state, value = _outcome(plan, leader)
    except (DecodeError, ContentDisallowed, SecurityError):
        raise  # it is there, and can never be read
    except Exception as error:  # noqa: BLE001 - backends raise what their drivers do
        logger.warning("%s[%s] asks later for the result of %s: %r", plan.name, request.id, leader, error)
        put_off(plan, request, replace(mark, tries=min(mark.tries, LATER)))
    if state == states.SUCCESS:
        return True, value
    entry = ledger.read(plan.queue(mark.key, mark.slot))
    waits = entry is not None and entry.id == leader and not ledger.is_vacant(entry)
    if not waits and (successor := ledger.buried(leader)) is not None:
        # The call that has taken its place has its followers too.
        put_off(plan, request, replace(mark, after=successor, tries=0, graces=0))
    if state in states.EXCEPTION_STATES and state != states.RETRY:
        if isinstance(value, Exception):
            raise value
        raise DuplicateTaskError(f"the equal call {leader} ended as {state}", leader)
    if waits:
        put_off(plan, request, replace(mark, tries=min(mark.tries, 3)))
    if state is not None and mark.graces < GRACE:
        put_off(plan, request, replace(mark, tries=0, graces=mark.graces + 1))
    return False, None


def _outcome(plan: Plan, leader: str) -> tuple[str | None, Any]:
    """State and result of a call, or (None, None) where no backend keeps any."""
    result = plan.task.AsyncResult(leader)
    try:
        state = result.state
        return str(state), result.result if state in states.READY_STATES else None
    except (NotImplementedError, AttributeError):
        return None, None  # Celery's backend for "none configured" has no results to ask for
