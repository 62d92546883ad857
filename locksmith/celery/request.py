"""Celery's request of a Singleton call, in the worker's parent: it sees how calls end that cannot say so themselves."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from celery.exceptions import Ignore, Reject, Retry, WorkerLostError

from locksmith.celery import marks
from locksmith.celery.ledger import Place
from locksmith.celery.marks import Mark
from locksmith.celery.plan import Plan, plan_of
from locksmith.celery.publishing import places_of
from locksmith.celery.receiving import FireRequest
from locksmith.celery.wiring import wiring_of
from locksmith.celery.worker import Farewell, at_work, heart
from locksmith.errors import StoreError

logger: Final = logging.getLogger("locksmith.celery")


class SingletonRequest(FireRequest):
    """A class of your own (`Task.Request`) inherits from this one."""

    _will_return = False
    """Whether the broker was told to deliver the message once more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        at_work.add(self)
        # Celery makes a class of this one whose `on_success` calls no other.
        self.on_success = partial(self._returned, self.on_success)  # type: ignore[method-assign]

    def _returned(self, on_success: Callable[..., Any], failed__retval__runtime: Any, **kwargs: Any) -> Any:
        """The task has ended in its child."""
        vars(self).pop("on_success", None)  # which refers to this object, and would keep it
        at_work.discard(self)
        if not failed__retval__runtime[0]:
            self._ran()
        return on_success(failed__retval__runtime, **kwargs)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The hard time limit has passed, and the pool kills the child."""
        super().on_timeout(soft, timeout)
        if not soft:
            at_work.discard(self)
            self._over()

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """The task has failed: by an exception, which its child has seen, or because the child is no more."""
        error = exc_info.exception
        if type(error).__name__ == "ExceptionWithTraceback":
            error = error.exc
        lost = isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt)
        if lost and self.task.acks_late and self.task.reject_on_worker_lost:
            # Before the broker is told: whoever gets the message must find it queued.
            self._requeue()
        super().on_failure(exc_info, send_failed_event, return_ok)
        at_work.discard(self)
        if not isinstance(error, Retry | Ignore | Reject):
            self._ran()
        # A Celery that publishes it once more by itself has taken the key for that.
        if lost and not getattr(self.task, "retry_on_worker_lost", False):
            self._over()

    def reject(self, requeue: bool = False) -> None:
        """The broker is told that this message is not done."""
        self._will_return = self._will_return or (requeue and not self.acknowledged)
        super().reject(requeue=requeue)

    def _announce_revoked(self, *args: Any, **kwargs: Any) -> None:
        at_work.discard(self)
        super()._announce_revoked(*args, **kwargs)  # type: ignore[misc]  # Celery's own, which its stubs leave out
        self._over()

    def _announce_cancelled(self, *args: Any, **kwargs: Any) -> None:
        # Celery cancels what it cannot acknowledge any more; the broker delivers it again.
        at_work.discard(self)
        self._requeue()
        super()._announce_cancelled(*args, **kwargs)  # type: ignore[misc]  # as above

    def _ran(self) -> None:
        """It has run to its end; without its key, perhaps, and then what publishing has taken is there still."""
        beating, (plan, mark) = heart(), self._mark()
        if beating is not None and plan is not None and mark is not None and plan.options.on_store_error == "run":
            beating.farewell(Farewell(self.id, self._ending(plan, mark), None))

    def _over(self) -> None:
        """This call will not run any more, or is ended with its process right now."""
        beating = heart()
        if self._will_return or beating is None:
            return
        plan, mark = self._mark()
        if plan is not None and mark is not None:
            # Of a pool in this process Celery has other ids than those of processes.
            pid: Any = self.worker_pid if beating.forks else os.getpid()
            began = None if self.time_start is None else pid
            beating.farewell(Farewell(self.id, self._ending(plan, mark), began))

    def _ending(self, plan: Plan, mark: Mark) -> list[Place]:
        # A call that was begun keeps what it has until it expires.
        keeps = plan.options.phase == "until_expired" and self.time_start is not None
        return [] if keeps else list(places_of(plan, mark))

    def _requeue(self) -> None:
        plan, mark = self._mark()
        if plan is None or mark is None or not plan.options.runs_under_queue:
            return
        try:
            wiring_of(self.app).ledger().requeue(plan.queue(mark.key, mark.slot), self.id, lambda: plan.queued(self.id))
        except StoreError as error:
            logger.warning("the key of %s could not be kept for its next delivery: %s", self.id, error)

    def _mark(self) -> tuple[Plan | None, Mark | None]:
        plan = plan_of(self.task)
        mark = marks.read(self.request_dict.get(marks.HEADER))
        if plan is None or mark is not None:
            return plan, mark
        try:
            return plan, Mark(plan.key_of_arrival(self.args, self.kwargs, self.delivery_info))
        except (TypeError, ValueError):
            return plan, None  # arguments that do not fit: it never had a key
