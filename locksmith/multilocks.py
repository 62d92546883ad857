"""Multi-locks, blocking: a thin mirror of `locksmith.multilocks_aio`. `locksmith.recipes` decides what happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from locksmith.client import Block
from locksmith.engine.core import Engine
from locksmith.engine.together import release_all
from locksmith.errors import AcquireTimeout
from locksmith.recipes.multilease import MultiLeaseFace, lost_names, wait_any_lost
from locksmith.recipes.multilock import Together
from locksmith.recipes.permits import Permits, check_wait
from locksmith.runtime import drive


class MultiLostSignal:
    """The end of a name that nobody gave back, to ask for or to wait for."""

    __slots__ = ("_lease",)

    def __init__(self, lease: MultiLease) -> None:
        self._lease = lease

    @property
    def names(self) -> tuple[str, ...]:
        """Which names were lost."""
        return lost_names(self._lease)

    def is_set(self) -> bool:
        """Whether one of the names was lost."""
        return bool(self.names)

    def wait(self, timeout: float | None = None) -> bool:
        """True as soon as one is lost; False where all were released, or `timeout` seconds passed, before."""
        return drive(wait_any_lost(self._lease, timeout))


class MultiLease(Block, MultiLeaseFace):
    """Several names, acquired together. Give them back with `release()`, or use it in a `with`, which does."""

    __slots__ = ()

    @property
    def lost(self) -> MultiLostSignal:
        """Set when the first of the names was lost; `lost.names` says which were, `lost.wait(timeout)` waits for it."""
        return MultiLostSignal(self)

    def release(self) -> bool:
        """True: all were given back. False: were released before. Raises LeaseLost where some of them were lost.

        The others are given back all the same. Raises StoreError where the store could not be asked: renewal has
        ended, giving back goes on being tried until the ttl has passed, and calling this again is safe.
        """
        return drive(release_all(self._engine, self._holds))


class MultiLock:
    """Several names with settings: stateless, cheap, to be shared between threads."""

    __slots__ = ("_engine", "_together")

    def __init__(self, engine: Engine, permits: Sequence[Permits]) -> None:
        self._engine = engine
        self._together = Together(engine, permits)

    @property
    def names(self) -> tuple[str, ...]:
        """The names this locks, in the order in which they were given."""
        return self._together.names

    def acquire(
        self, *, wait: float | None = None, note: str | None = None, max_hold: float | None = None
    ) -> MultiLease:
        """A lease of all names, after waiting for at most `wait` seconds (None: without bound, 0: one try).

        `note` is shown to people who list holders. `max_hold`: seconds after which it ends even if renewed.
        Raises AcquireTimeout, SelfDeadlock, SettingsConflict, StoreError, ConfigurationError, ClientClosed; in each of
        these cases none of the names is held.
        """
        lease = self._obtain(check_wait(wait), note, max_hold)
        if lease is None:
            shown = ", ".join(map(repr, self.names))
            raise AcquireTimeout(f"{shown} were not all free within {wait} s: nothing is held; try again later")
        return lease

    def try_acquire(self, *, note: str | None = None, max_hold: float | None = None) -> MultiLease | None:
        """A lease of all names, or None where somebody has one of them or waits for it. Raises as `acquire` does.

        One request where the store can; see docs/multi-lock.md.
        """
        return self._obtain(0.0, note, max_hold)

    def _obtain(self, wait: float | None, note: str | None, max_hold: float | None) -> MultiLease | None:
        holds = drive(self._together.acquire(wait, note, max_hold))
        return None if holds is None else MultiLease(self._engine, holds)

    def __enter__(self) -> NoReturn:
        raise TypeError("a multi-lock is only names: write `with lock.acquire() as lease:`")

    def __exit__(self, *exc: object) -> None: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(map(repr, self.names))} at {self._engine.store.address}>"
