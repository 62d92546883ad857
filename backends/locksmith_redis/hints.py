"""Push hints of the quorum store: somebody gave a name back, so whoever waits for it may try again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import exceptions as driver

from locksmith.runtime import Runtime, drive
from locksmith.store import Claim, Gone, Inbox, Ticket
from locksmith_redis.scripts import request
from locksmith_redis.server import Server
from locksmith_redis.waiters import Waiters


class Hints(Waiters):
    """Naps of this client's waiters, by name; ended by any release of that name. All clients share one channel."""

    def reset(self) -> None:
        """See Waiters.reset."""
        self.channel = self._keys.channel(b"hints")
        self._naps: dict[str, set[Ticket]] = {}
        self._waiters = {}

    def nap(self, claim: Claim, runtime: Runtime) -> Ticket:
        """Something to wait for: news mean only that it is time to try again."""
        made = Ticket(claim, 0, 0.0, Inbox(runtime.event()))
        self._naps.setdefault(claim.key, set()).add(made)
        return made

    def end(self, nap: Ticket) -> None:
        """Nobody sleeps here any more."""
        naps = self._naps.get(nap.claim.key)
        if naps is not None:
            naps.discard(nap)
            if not naps:
                self._naps.pop(nap.claim.key, None)

    def tickets(self) -> list[Ticket]:
        """See Waiters.tickets: a nap in line for nothing, but whoever naps wants the subscription back."""
        return [nap for naps in list(self._naps.values()) for nap in tuple(naps)]

    def hear(self, message: list[Any]) -> None:
        """See Waiters.hear: the message is a name."""
        if message[0] == b"message" and isinstance(message[2], bytes):
            for nap in tuple(self._naps.get(message[2].decode("ascii", "replace"), ())):
                nap.inbox.deliver(Gone())

    @property
    def subscription(self) -> bytes:
        """See Waiters.subscription."""
        return request(b"SUBSCRIBE", self.channel)


class Anyone:
    """An endpoint that leads to the first of several servers that can be reached."""

    def __init__(self, servers: Sequence[Server], runtime: Runtime) -> None:
        self._servers = list(servers)
        self._runtime = runtime
        self.timeout = min(server.timeout for server in servers)
        self.address = ""

    def open(self, seconds: float) -> Any:
        """See Endpoint.open."""
        work = self._open(seconds)
        return work if self._runtime.is_async else drive(work)

    async def _open(self, seconds: float) -> Any:
        failure: Exception = driver.ConnectionError("no server was named")
        for server in tuple(self._servers):
            try:
                connection = await self._runtime.settle(server.open(seconds / len(self._servers)))
            except (driver.RedisError, OSError) as error:
                failure = error
                # The others first from now on: this one may be frozen, and cost its time again and again.
                self._servers = [*(other for other in self._servers if other is not server), server]
            else:
                return connection
        raise failure
