"""In a worker: of the copies of one fire, the first that arrives is run, and no other.

A beat that died between publishing a fire and noting that it did has its successor publish the fire once more, under
the same task id. Each publication has a name of its own beside that, which every later delivery of the same message
keeps, and every retry: so those are run as ever, and only a second publication is dropped.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from celery.worker.request import Request
from celery.worker.state import task_ready

from locksmith.celery.wiring import wiring_of
from locksmith.errors import StoreError

logger: Final = logging.getLogger("locksmith.celery")
HEADER: Final = "locksmith_fire"
"""The header of a fire: schedule, entry, moment in microseconds, and which publication of it this is."""
REMEMBERED: Final = 86_400.0
"""Seconds for which the first copy of a fire is known: a second one comes after a ttl, or when a broker is back."""
PLAIN: Final = "celery.worker.request:Request"
OURS: Final = f"{__name__}:FireRequest"


class FireRequest(Request):
    """A class of your own (`Task.Request`) inherits from this one where copies of fires are to be dropped."""

    def revoked(self) -> bool:
        """Whether this message is not to be run. Celery asks when it is about to."""
        if super().revoked():
            return True
        fire = self.request_dict.get(HEADER)
        if not isinstance(fire, list | tuple) or len(fire) != 4 or self._is_first(str(fire[3])):
            return False
        logger.info("%s[%s] is dropped: another copy of this fire of %r came first", self.name, self.id, fire[1])
        # Nothing is stored as its result: it has the id, and so the result, of the other copy.
        task_ready(self)
        self.acknowledge()
        self._already_revoked = True
        return True

    def _is_first(self, copy: str) -> bool:
        try:
            return wiring_of(self.app).ledger().is_first(self.id, copy, REMEMBERED)
        except StoreError as error:
            logger.warning("%s[%s] is run, though it may be a second copy: %s", self.name, self.id, error)
            return True


def receive(app: Any) -> None:
    """Have the tasks of a worker look at fires. Those that have a request class of their own are left alone."""
    for task in app.tasks.values():
        if task.Request == PLAIN:
            task.Request = OURS
