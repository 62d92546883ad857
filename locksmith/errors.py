"""Every exception locksmith raises, each with one sentence on what the caller may do now."""

from __future__ import annotations


class LocksmithError(Exception):
    """The root of the tree: catch this to catch everything locksmith raises on purpose."""


# What the caller got wrong: fix the call or the settings; asking again will not help.


class ConfigurationError(LocksmithError, ValueError):
    """A setting or an argument cannot work: correct it, nothing was sent to the store."""


class InvalidName(ConfigurationError):
    """The name is empty, too long or not a string: choose another name."""


class InvalidFence(ConfigurationError):
    """This is no name with a fencing token as locksmith writes it: refuse the request that it came with."""


class InvalidTTL(ConfigurationError):
    """The ttl is not a positive, finite number of seconds that the store can keep: choose another ttl."""


class UnknownScheme(ConfigurationError):
    """No installed store answers to the scheme of this URL: use one of those listed, or install its package."""


class DriverMissing(ConfigurationError, ImportError):
    """The driver of this store is not installed: run the pip line in the message."""


class GuaranteeMissing(ConfigurationError):
    """The store does not promise what was required of it: choose another store, or require less."""


class SettingsConflict(ConfigurationError):
    """Somebody uses this name with another limit right now: agree on one limit, or wait until they are gone."""


class SelfDeadlock(LocksmithError, RuntimeError):
    """This same thread or task holds the name it is about to wait for without bound: release it first."""


class ClientClosed(LocksmithError, RuntimeError):
    """The client was closed: connect again."""


# What happened to an acquisition.


class AcquireTimeout(LocksmithError, TimeoutError):
    """The wait ended before the name was free: nothing is held and nothing is left in line; try again later."""


class RateLimited(LocksmithError):
    """The limit allows no more in time, and nothing was taken: try again in ``retry_after`` seconds, or take less."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AlreadyRunning(LocksmithError):
    """Somebody else is running this: leave it to them, or try again later.

    ``holder`` describes who, ``since`` how many seconds ago they started; both are None where the store cannot tell.
    """

    def __init__(self, message: str, *, holder: str | None = None, since: float | None = None) -> None:
        super().__init__(message)
        self.holder = holder
        self.since = since


class DuplicateTaskError(LocksmithError):
    """An equal call of this Celery task is queued or runs already: leave it to that one, whose id is ``task_id``."""

    def __init__(self, message: str, task_id: str | None = None) -> None:
        # Both are arguments of the exception: that is what Celery's result backends, and pickle, carry along.
        super().__init__(message, task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return str(self.args[0])


class ResultNotRecorded(LocksmithError):
    """The run that was joined returned what cannot be passed on: return what JSON can hold, or do not join."""


class LeaseLost(LocksmithError):
    """The lease ended before it was given back: stop, and let the fencing token guard what was already written.

    ``result`` is what a function decorated by ``run_once`` returned, where it finished although its lease was lost.
    """

    result: object = None


class InheritedLease(LeaseLost):
    """The lease belongs to the process that forked this one: acquire one here."""


class StaleToken(LeaseLost):
    """The resource has seen a later holder's fencing token, and kept nothing: stop, the lease is over.

    ``seen`` is that token, or None where the resource did not tell.
    """

    def __init__(self, message: str, *, seen: int | None = None) -> None:
        super().__init__(message)
        self.seen = seen


# What happened on the way to the store.


class StoreError(LocksmithError):
    """The store did not answer the question; what became of the request may be unknown."""


class StoreUnavailable(StoreError, ConnectionError):
    """The store could not be asked, or did not answer in time: try again; leases live on until their deadline."""


class StoreAuthError(StoreError, PermissionError):
    """The store refused our credentials or permissions: correct them; asking again will not help."""


class StoreProtocolError(StoreError):
    """The store answered something we do not understand: check that URL, server kind and version belong together."""


# Chunked jobs.


class ChunkFailed(LocksmithError):
    """A chunked job has stopped at a chunk that failed too often: correct the cause, then call the job again."""


# Cells.


class CellConflict(LocksmithError):
    """The cell is not at the version that was expected: read it again and decide anew. ``found`` is its version."""

    def __init__(self, message: str, *, found: int | None = None) -> None:
        super().__init__(message)
        self.found = found


class CellTooLarge(ConfigurationError):
    """The value is larger than a cell may be: keep it elsewhere and store a reference."""
