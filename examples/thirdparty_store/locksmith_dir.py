"""dir:///run/lock/myapp: leases for all processes of one Linux host, in a folder. For tens of names, not thousands.

A namespace is one JSON file. A request takes its flock, reads it, decides, and replaces it: one step for everybody, of
which nothing is left if its process dies in it. What to decide is `World`, locksmith's rules as plain data.

Assumes a local file system that a reboot empties (/run, /dev/shm: moments of an earlier boot mean nothing), and one
CLOCK_BOOTTIME for all. While a process is stopped inside its step, nobody gets an answer; leases keep their deadlines.
"""

import fcntl
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from locksmith import errors, names, redact, store
from locksmith.memory_world import Holder, NameState, Waiter, World
from locksmith.runtime import Runtime, SystemClock, ThreadEvent
from locksmith.store import Claim, Grant, Guarantee, Inbox, Ticket

T = TypeVar("T")
NOBODY = Inbox(
    ThreadEvent(SystemClock())
)  # the inbox of tickets read from the file: whoever waits has a ticket with its own


class DirStore(store.Store):
    """Promises what one host can. Not PUSH, since waiters look; and it keeps no cells."""

    guarantees = Guarantee.FENCED | Guarantee.FIFO | Guarantee.EXACT_TTL | Guarantee.LOCK_DELAY

    def __init__(self, root: str, runtime: Runtime, namespace: str) -> None:
        self.runtime, self.namespace, self.folder = runtime, namespace, Path(root, names.encode(namespace))
        self.clock = SystemClock().now  # the store's own: the same in every process, whatever the runtime lives by

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> Self:
        if not url.startswith("dir:///") or "?" in url:
            raise errors.ConfigurationError(f"write dir:///absolute/folder, without options, not {redact.url(url)}")
        return cls(url.removeprefix("dir://"), runtime, namespace)

    @property
    def address(self) -> str:
        return f"dir://{self.folder.parent}"

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        since = self.runtime.clock.now()  # before anything is sent: belief must end before the store's own count does
        ticket = Ticket(claim, 0, since, Inbox(self.runtime.event()))
        place = ticket if queue else None
        reply = (await self._do(lambda world, now, us: world.acquire(claim, place, since, now, us)))[0]
        if isinstance(reply, errors.SettingsConflict):  # returned until here: what the step settled is saved
            raise reply
        if isinstance(reply, Ticket):  # perhaps of an earlier request, whose answer was lost
            ticket.number, ticket.head_expires_in = reply.number, reply.head_expires_in
            return ticket
        return reply

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        """Look, without the lock, and pause; the engine calls this again and again."""
        name = (await self._ask(self._load)).names.get(ticket.claim.key, NameState())
        if (holder := name.holders.get(ticket.claim.owner)) and holder.ticket == ticket.number:
            ticket.inbox.deliver(holder.grant._replace(since=ticket.word_at))
        else:
            await ticket.inbox.wait(0.005 if timeout is None else min(timeout, 0.005))

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[store.Word]:
        def step(world: World, *at: Any) -> list[store.Word]:
            words = [world.beat_grant(grant, since, *at)[0] for grant in grants]
            return words + [world.beat_ticket(ticket, since, *at)[0] for ticket in tickets]

        since = self.runtime.clock.now()
        return await self._do(step, within)

    async def release(self, grant: Grant) -> bool:
        return await self._do(lambda world, *at: world.release(grant, *at)[0])

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        await self._do(lambda world, *at: world.abandon(claim, tombstone, *at))

    async def evict(self, name: str, token: int) -> bool:
        return await self._do(lambda world, *at: world.evict(names.encode(name), token, *at)[0])

    async def inspect(self, name: str) -> store.Inspection:
        return (await self._ask(self._load)).inspect(names.encode(name), name, self.clock())

    async def names(self, prefix: str, after: str | None = None) -> store.Page:
        found, now = (await self._ask(self._load)).names.values(), self.clock()
        held = {h.grant.claim.name for name in found for h in name.holders.values() if h.expires > now}
        wanted = {waiter.ticket.claim.name for name in found for waiter in name.live_line(now)}
        return store.Page([name for name in held | wanted if name.startswith(prefix)])

    async def close(self) -> None:
        """Nothing stays open."""

    def after_fork(self) -> None:
        """No connection is inherited; what a child may inherit of a lock is dealt with in `_locked`."""

    async def _do(self, step: Callable[[World, float, int], T], within: float = 5.0) -> T:
        """Take a step while nobody else takes one."""
        return await self._ask(partial(self._locked, step), within)

    async def _ask(self, request: Callable[[], T], within: float = 5.0) -> T:
        """Do a short piece of I/O. The one place that translates its errors, and that waits for the lock."""
        ends = self.clock() + within
        while True:
            try:
                return await self.runtime.call(request)
            except BlockingIOError as busy:
                if self.clock() > ends:
                    raise errors.StoreUnavailable(f"{self.address} stays locked: is one of us stopped?") from busy
            except (OSError, json.JSONDecodeError) as error:
                raise errors.StoreUnavailable(f"{self.address} cannot be used: {error}") from error
            await self.runtime.sleep(0.0005)

    def _locked(self, step: Callable[[World, float, int], T]) -> T:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                world, now = self._load(), self.clock()
                reply = step(world, now, time.time_ns() // 1000)
                world.sweep(now)
                text = json.dumps([world.tickets, world.names], default=_plain)
                (self.folder / "new").write_text(text, "ascii")
                (self.folder / "new").replace(self.folder / "state")
                return reply
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough: a child forked meanwhile has it open as well

    def _load(self) -> World:
        world, file = World(), self.folder / "state"
        world.tickets, found = json.loads(file.read_text("ascii")) if file.exists() else (0, {})
        for key, (limit, token, holders, line, *rest) in found.items():
            held = {owner: Holder(Grant(Claim(*g[0]), *g[1:]), *more) for owner, (g, *more) in holders.items()}
            waiting = {o: Waiter(Ticket(Claim(*c), n, 0.0, NOBODY), *more) for o, ((c, n), *more) in line.items()}
            world.names[key] = NameState(limit, token, held, waiting, *rest)
        return world


def _plain(item: Any) -> list[Any]:
    """What JSON holds of the records of a World; named tuples are lists to it anyway."""
    return [item.claim, item.number] if isinstance(item, Ticket) else [getattr(item, key) for key in item.__slots__]
