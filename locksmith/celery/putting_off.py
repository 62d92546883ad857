"""What becomes of a message that is not run here and now: it comes back later, or it ends as a duplicate."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NoReturn

from celery.exceptions import Ignore

from locksmith.celery.marks import Mark
from locksmith.celery.plan import Plan
from locksmith.errors import DuplicateTaskError

FIRST: Final = 0.2
LONGEST: Final = 5.0


def put_off(plan: Plan, request: Any, mark: Mark) -> NoReturn:
    """Publish the same message once more, for later, and let go of this one: no slot of a pool waits, no retry counts.

    Raises Ignore; what publishing raises, and then this message is still ours.
    """
    pause = min(FIRST * 2 ** min(mark.tries, 10), LONGEST)
    again = replace(mark, tries=mark.tries + 1)
    come_back(plan.task, request, pause, singleton=again)


def come_back(task: Any, request: Any, pause: float, **options: Any) -> NoReturn:
    """Publish the same message once more, for later. Raises Ignore; what publishing raises."""
    if "ignore_result" in vars(request):
        options["ignore_result"] = request.ignore_result
    options |= {"countdown": pause, "retries": request.retries, "add_to_parent": False}
    task.signature_from_request(request, **options).apply_async()
    raise Ignore(f"comes back in {pause:.1f} s")


def end_as_duplicate(plan: Plan, request: Any, holder: str) -> NoReturn:
    """End a duplicate that has reached a worker. Raises Ignore, or DuplicateTaskError where something comes after it.

    Its result is REVOKED, so that nobody waits for it for ever. Where a chain, chord, group or link comes after it,
    only a failure reaches those as well.
    """
    why = f"an equal call of {plan.name} has the key, as task {holder}"
    if request.chain or request.chord or request.group or request.callbacks or request.errbacks:
        raise DuplicateTaskError(f"{why}: leave it to that one", holder)
    with suppress(NotImplementedError):
        plan.task.backend.mark_as_revoked(request.id, why, request=request, store_result=not request.ignore_result)
    raise Ignore(why)
