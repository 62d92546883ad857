"""Which lease the code that runs now works under."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from locksmith.aio import AsyncLease
    from locksmith.client import Lease

current: ContextVar[Lease | AsyncLease | None] = ContextVar("locksmith_current_lease", default=None)
"""Set around each step of a guarded function, so that a generator does not lend its lease to whoever consumes it."""


def current_lease() -> Lease | AsyncLease | None:
    """The lease of the innermost `run_once` function that is running in this thread or task; None outside of one.

    Its `token` is what the guarded resource compares, its `check()` raises LeaseLost once it cannot be trusted. In an
    async function it is an AsyncLease. Tasks started by the function see it too, threads started by it do not.
    """
    return current.get()
