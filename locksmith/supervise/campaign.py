"""Standing in line for the name, on a thread of its own, and the lease that comes of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from locksmith.client import Client, Lease
from locksmith.errors import ClientClosed, LeaseLost, LocksmithError, StoreError, StoreUnavailable

logger: Final = logging.getLogger("locksmith.supervise")
_LONGEST: Final = 5.0


@dataclass(frozen=True, slots=True)
class Elected:
    """The campaign has got the lease."""

    campaign: Campaign


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody else has it, and this was to try but once."""

    campaign: Campaign


@dataclass(frozen=True, slots=True)
class Failed:
    """Trying again would not help, or was not wanted."""

    error: LocksmithError


class Campaign:
    """One stand for the name, with a client of its own: closing that leaves the line, or gives the name back.

    `tell` gets Elected, Taken or Failed, on a thread of ours; nothing after `close`.
    """

    def __init__(
        self, connect: Callable[[], Client], name: str, ttl: float, *, once: bool, tell: Callable[[object], None]
    ) -> None:
        self._client = connect()
        self._lock = self._client.lock(name, ttl=ttl)
        self._once = once
        self._tell = tell
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="locksmith-campaign", daemon=True)
        self.lease: Lease | None = None

    def start(self) -> None:
        """Join the line."""
        self._thread.start()

    def close(self, before: Callable[[Lease], None]) -> None:
        """Leave the line, or give the name back; `before` is called with a lease that is held still."""
        self._closed.set()
        if (lease := self.lease) is not None and lease.held:
            # What goes wrong here costs the next one the rest of the ttl; there is nobody else to tell.
            try:
                before(lease)
                lease.release()
            except (StoreError, LeaseLost) as error:
                logger.warning("%r was not given back, it ends with its ttl: %s", lease.name, error)
        with suppress(StoreError):
            self._client.close()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.1
        while not self._closed.is_set():
            try:
                self.lease = self._lock.try_acquire() if self._once else self._lock.acquire()
            except ClientClosed:
                return None
            except StoreUnavailable as error:
                if self._once:
                    return self._say(Failed(error))
                (logger.warning if pause == 0.1 else logger.debug)("cannot stand in line, trying again: %s", error)
                self._closed.wait(pause)
                pause = min(pause * 2, _LONGEST)
            except LocksmithError as error:
                return self._say(Failed(error))
            else:
                return self._say(Taken(self) if self.lease is None else Elected(self))
        return None

    def _say(self, word: object) -> None:
        if not self._closed.is_set():
            self._tell(word)
