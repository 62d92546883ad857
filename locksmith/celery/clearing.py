"""Taking all keys of an application away, as users of celery-singleton know it."""

from __future__ import annotations

from typing import Any

from locksmith.celery.wiring import install, wiring_of


def clear_locks(app: Any) -> int:
    """Take the keys of all Singleton tasks that this application knows from whoever has them; how many those were.

    For the moment when the broker's queues were lost or purged. Calls that run are not stopped: equal ones may run
    beside them. Keys of workers that died are freed without this. Raises StoreError; GuaranteeMissing where the store
    cannot list.
    """
    install(app)
    app = getattr(app, "_get_current_object", lambda: app)()
    ledger = wiring_of(app).ledger()
    known = frozenset(app.tasks)
    return sum(ledger.erase(place, entry) for place, entry in ledger.held() if entry.task in known)
