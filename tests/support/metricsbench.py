"""What tests of metrics work with: a client of either face over a memory store whose calls can be made to fail."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from locksmith import events
from locksmith.errors import StoreUnavailable
from locksmith.testing import VirtualClock
from locksmith.testing.contract.faces import AsyncioFace, BlockingFace, Face
from locksmith.testing.faults import Call, FaultyStore

FACES: dict[str, type[Face]] = {"blocking": BlockingFace, "asyncio": AsyncioFace}


class Bench:
    """Two clients of one world on a virtual clock; what happens to the leases of the first is in `seen`."""

    def __init__(self, face: Face) -> None:
        self.face = face
        self.clock = VirtualClock()
        url = f"memory://metrics-{uuid.uuid4().hex}"
        self.store = FaultyStore(face.store(url, "t", self.clock))
        self.client = face.client_over(self.store)
        self.other = face.connect(url, namespace="t", clock=self.clock)
        self.seen: list[events.Event] = []
        face._opened.append(self.client.close)

    def listen(self) -> Bench:
        """Note every record."""
        self.client.add_hook(self.seen.append)
        return self

    async def advance(self, seconds: float) -> None:
        """Let time pass for everybody."""
        if self.face.name == "asyncio":
            await self.clock.advance_async(seconds)
        else:
            self.clock.advance(seconds)

    def kinds(self) -> list[str]:
        """What happened, by the names of the records."""
        return [type(event).__name__ for event in self.seen]

    def break_(self, *verbs: str) -> None:
        """From now on these cannot be asked of the store; without one, everything can again."""
        self.store.before = _broken(verbs) if verbs else None

    async def queued(self) -> None:
        """Wait until somebody stands in line for "n"."""

        async def waits() -> bool:
            return bool((await self.other.inspect("n")).waiters)

        await self.face.eventually(waits, what="a waiter")


def _broken(verbs: tuple[str, ...]) -> Callable[[Call], Any]:
    def fault(call: Call) -> None:
        if call.verb in verbs:
            raise StoreUnavailable("broken for a test")

    return fault
