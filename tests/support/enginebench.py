"""What an engine test works with: a client on a virtual clock, over a memory store whose calls can be made to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from locksmith import events
from locksmith.client import Client
from locksmith.errors import StoreUnavailable
from locksmith.testing import VirtualClock
from locksmith.testing.faults import Call, FaultyStore


@dataclass
class Bench:
    """What an engine test works with."""

    clock: VirtualClock
    store: FaultyStore
    client: Client
    seen: list[events.Event] = field(default_factory=list)

    def broken(self, *verbs: str) -> Callable[[Call], None]:
        """A fault: the store cannot be asked (anything, or these verbs)."""

        def fault(call: Call) -> None:
            if not verbs or call.verb in verbs:
                raise StoreUnavailable("broken for a test")

        return fault

    def holders(self, name: str = "n") -> list[int]:
        """The tokens of those who hold a name, in the store's eyes."""
        return [view.token for view in self.client.inspect(name).holders]

    def waiters(self, name: str = "n") -> int:
        """How many stand in line."""
        return len(self.client.inspect(name).waiters)

    def beats(self) -> list[tuple[int, int]]:
        """How many grants and tickets each beat so far had."""
        return [(len(c.arguments[0]), len(c.arguments[1])) for c in self.store.calls if c.verb == "beat"]

    def kinds(self) -> list[str]:
        """What happened, by the names of the events; without one for each renewal."""
        routine = (events.Renewed, events.RenewalFailed)
        return [type(event).__name__ for event in self.seen if not isinstance(event, routine)]
