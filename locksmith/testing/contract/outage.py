"""Cases for stores with a server: it hangs up, freezes, or is started anew. Beside `StoreContract`, not part of it."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import pytest

from locksmith.errors import LeaseLost, StoreUnavailable
from locksmith.store import Guarantee
from locksmith.testing.contract.base import Cases, case
from locksmith.testing.contract.faces import Face
from locksmith.testing.servers.base import Server

T = TypeVar("T")


class RestartCases(Cases):
    """What a restart of the server may and may not forget."""

    remembers: ClassVar[bool] = False
    """Whether this server, as it is configured, knows its grants and cells afterwards. DURABLE stores always do."""
    outlasts: ClassVar[float] = 120.0
    """Seconds that no restart takes, however busy the machine: the ttl of a lease that is to be there afterwards. Lower
    it where the store keeps none for so long.
    """

    server: Server
    """What the test bed has started, where it has: the methods below then need not be filled in."""

    crashes: ClassVar[bool] = False
    """Whether a restart begins with SIGKILL instead of a clean end."""

    def restart(self) -> None:
        """End the server, and start it again with its data."""
        if self.crashes:
            self.server.kill()
            self.server.start()
        else:
            self.server.restart()

    async def _when_back(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The first answer: a server that has just come back may be found late, and "could not ask" is honest."""
        until = time.monotonic() + 30.0
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise

    @case()
    async def test_a_restart_of_the_server(self, face: Face) -> None:
        """F8: who remembers its grants still honours them; else their holders are told so; tokens grow either way."""
        client = self.connect(face, ttl=self.outlasts)
        lease = await client.lock("n").acquire()
        await face.call(self.restart)
        if self.remembers or Guarantee.DURABLE in client.guarantees:
            assert await self._when_back(client.lock("n").try_acquire) is None
            assert lease.held
            assert await lease.release() is True
        else:
            with contextlib.suppress(LeaseLost):
                await lease.release()
        again = await client.lock("n").acquire(wait=self.margin)
        assert again.token > lease.token
        assert await again.release() is True

    @case(needs=Guarantee.CELLS)
    async def test_cells_after_a_restart(self, face: Face) -> None:
        """F8 for cells: a durable store keeps them, and versions grow either way."""
        store = self.store(face)
        first = await store.put("c", b"kept")
        await face.call(self.restart)
        cell = await self._when_back(lambda: store.get("c"))
        if self.remembers or Guarantee.DURABLE in store.guarantees:
            assert cell is not None
            assert (cell.value, cell.version) == (b"kept", first)
        assert await store.put("c", b"new") > first


class ServerCases(RestartCases):
    """What clients live through when their server does not. Fill in what an operator, or bad luck, does to it.

    class TestMyStore(StoreContract): ...
    class TestMyStoreWithoutIt(ServerCases): ...    # with a server that nobody else uses
    """

    answers_within: ClassVar[float] = 15.0
    """Seconds after which a request to a frozen server has failed: what the driver's own time limits allow."""

    @abstractmethod
    def break_connections(self) -> None:
        """Have the server close every connection."""

    def pause(self) -> None:
        """Freeze the server: connections stay, nothing is answered."""
        self.server.pause()

    def resume(self) -> None:
        """Let the frozen server go on."""
        self.server.resume()

    async def _acquire(self, client: Any, wait: float | None = None) -> Any:
        return await client.lock("n").acquire(wait=wait)

    @case()
    async def test_a_lease_outlives_its_connections(self, face: Face) -> None:
        """F17, nastiest scenario 9: hung up on again and again, and held, renewed and given back all the same.

        Where a grant lives in its connection it is lost with that, and its holder is told at once.
        """
        ttl = max(1.5, 3 * self.short)
        client = self.connect(face, ttl=ttl)
        if self.by_connection(face):
            client = self.connect(face, ttl=10 * self.margin)
        lease = await client.lock("n").acquire()
        if self.by_connection(face):
            await face.call(self.break_connections)
            assert await lease.lost.wait(self.margin) is True
            async with client.lock("n").acquire(wait=self.margin):
                pass
            return
        for _ in range(4):
            await face.call(self.break_connections)
            await face.sleep(ttl / 2)
            assert lease.held
        assert await lease.release() is True
        await self.nothing_left(face, "n")

    @case()
    async def test_requests_after_a_broken_connection_are_answered(self, face: Face) -> None:
        """Complaint 18: a connection that broke while it was idle does not fail the next acquisition."""
        client = self.connect(face)
        for _ in range(3):
            # Given back after it was lost: that is said.
            with contextlib.suppress(*([LeaseLost] if self.by_connection(face) else [])):
                async with client.lock("n").acquire(wait=5):
                    await face.call(self.break_connections)

    @case(needs=Guarantee.FIFO)
    async def test_a_waiter_outlives_its_connections(self, face: Face) -> None:
        """Nastiest scenario 21: the push has lost its channel; the place in line is kept, and the turn comes."""
        waiter_ttl = 3 * self.short
        client, other = self.connect(face, waiter_ttl=waiter_ttl), self.connect(face)
        held = await other.lock("n").acquire()
        waiting = face.start(self._acquire(client))
        await self.in_line(face, other)
        await face.call(self.break_connections)
        await face.sleep(waiter_ttl / 3)
        await face.call(self.break_connections)
        assert await held.release()
        lease = await waiting.result(waiter_ttl + self.margin)
        assert lease.token > held.token
        assert await lease.release() is True
        await self.nothing_left(face, "n")

    @case()
    async def test_a_frozen_server(self, face: Face) -> None:
        """F5, P4, P9: the lease ends by its own deadline, requests fail in time, and afterwards all is as before."""
        ttl = max(1.5, 3 * self.short)
        client = self.connect(face, ttl=ttl)
        lease = await client.lock("n").acquire()
        suspected: list[bool] = []
        lease.on_suspect(lambda: suspected.append(lease.held))
        began = time.monotonic()
        await face.call(self.pause)
        try:
            assert await lease.lost.wait(ttl + self.margin) is True
            assert time.monotonic() - began <= ttl + self.margin / 2
            assert not lease.held
            with pytest.raises(StoreUnavailable):
                await client.lock("m").acquire(wait=self.answers_within)
            assert time.monotonic() - began < ttl + self.answers_within + self.margin
        finally:
            await face.call(self.resume)
        with pytest.raises(LeaseLost):
            await lease.release()
        async with client.lock("n").acquire(wait=ttl + self.late(face, ttl) + self.margin):
            pass
        assert suspected[:1] == [True]
        await self.nothing_left(face, "n", "m")
