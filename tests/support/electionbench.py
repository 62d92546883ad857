"""What tests of elections work with: a candidate whose store can fail, a rival, and a clock that only tests move."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from locksmith.elections import Election, Leadership
from locksmith.errors import StoreUnavailable
from locksmith.memory import MemoryStore
from locksmith.runtime import Blocking
from locksmith.testing import VirtualClock
from locksmith.testing.faults import Call, FaultyStore, client_over

TTL = 12.0


class Told:
    """What a candidate was told, in order, and when."""

    def __init__(self, election: Any, clock: VirtualClock) -> None:
        self.of: list[tuple[str, int]] = []
        self.at: list[float] = []
        self._clock = clock
        election.on_elected(lambda lease: self._note("elected", lease))
        election.on_lost(lambda lease: self._note("lost", lease))

    def _note(self, what: str, lease: Any) -> None:
        self.of.append((what, lease.token))
        self.at.append(self._clock.now())

    @property
    def what(self) -> list[str]:
        """Without the tokens."""
        return [what for what, _ in self.of]

    def check(self) -> None:
        """Each term began once, and then ended at most once; no term ended that had not begun."""
        for token in {token for _, token in self.of}:
            assert [what for what, of in self.of if of == token] in (["elected"], ["elected", "lost"])


class Bench:
    """Two candidates of the election "e" in one world."""

    def __init__(self, url: str) -> None:
        self.clock = VirtualClock()
        self.store = FaultyStore(MemoryStore.from_url(url, runtime=Blocking(self.clock), namespace="t"))
        self.client = client_over(self.store, ttl=TTL, waiter_ttl=6.0)
        rival = MemoryStore.from_url(url, runtime=Blocking(self.clock), namespace="t")
        self.rivals = client_over(rival, ttl=TTL, waiter_ttl=6.0)
        self.election: Election = self.client.election("e")
        self.rival: Election = self.rivals.election("e")
        self.told = Told(self.election, self.clock)
        self.lease: Leadership | None = None

    def broken(self, *verbs: str) -> Callable[[Call], None]:
        """A fault: the store cannot be asked (anything, or these verbs)."""

        def fault(call: Call) -> None:
            if not verbs or call.verb in verbs:
                raise StoreUnavailable("broken for a test")

        return fault

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Time passes whenever this thread sleeps by the clock: between two tries of an announcement, for example."""
        here, left = threading.current_thread(), threading.Event()

        def tick() -> None:
            while not left.wait(0.001):
                if self.clock.sleeps(here):
                    self.clock.advance(0.05)

        ticker = threading.Thread(target=tick)
        ticker.start()
        try:
            yield
        finally:
            left.set()
            ticker.join()

    def heal(self) -> None:
        self.store.before = self.store.after = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.heal()
        self.client.close()
        self.rivals.close()
