"""What every class of cases stands on: the hooks a store's author fills in, and how a case becomes a test."""

from __future__ import annotations

import functools
import itertools
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar, Final, TypeAlias, TypeVar

import pytest

from locksmith import aio, names, pacing
from locksmith.errors import GuaranteeMissing
from locksmith.recipes.election import NEEDS
from locksmith.store import Claim, Gone, Grant, Guarantee, Store, Ticket
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.processes import Worker

C = TypeVar("C", bound="Cases")
Body: TypeAlias = Callable[[C, Face], Coroutine[Any, Any, None]]

EARLY: Final = 0.01
"""The share of a ttl by which a store's clock may run faster than ours (the engine's DRIFT)."""
_owners = itertools.count(1)


def case(
    *, needs: Guarantee = Guarantee.NONE, shared: bool = False, permits: bool = False
) -> Callable[[Body[C]], Callable[[C, Face], None]]:
    """Make a test of a coroutine method: it runs in both runtimes, on what `needs` says the store declares.

    Where the store does not declare it, the test asserts that it is refused, instead of being skipped. `shared` is for
    cases about several processes: of a store that declares `one_process` they assert that it is just that. `permits` is
    for those with more than one permit: a store that declares `exclusive_only` refuses them.
    """

    def decorate(body: Body[C]) -> Callable[[C, Face], None]:
        @functools.wraps(body)
        def test(self: C, face: Face) -> None:
            missing = needs & ~self.guarantees(face)
            if missing:
                face.run(self.refused(face, missing))
            elif shared and self.one_process(face):
                face.run(self.lives_in_one_process(face))
            elif permits and face.store(self.target(), "unused").exclusive_only:
                face.run(self.has_locks_alone(face))
            else:
                face.run(body(self, face))

        test.is_contract_case = True  # type: ignore[attr-defined]
        return test

    return decorate


class Cases:
    """The base of all classes of cases. Fill in `url` (or `target`); the rest is optional.

    Every case runs with a namespace of its own, so a server may be shared by all of them.
    """

    short: ClassVar[float] = 0.3
    """A ttl to be waited for, in seconds; raise it where the store's smallest is larger, or its host is slow."""
    margin: ClassVar[float] = 3.0
    """Seconds that may pass between something due and its being seen. Generous: test machines are busy."""
    rounds: ClassVar[int] = 10_000
    """Acquisitions in the case with many threads."""

    # What a store's author fills in.

    @abstractmethod
    def url(self) -> str:
        """Where the store is. Called in every test; the server runs already."""
        raise NotImplementedError("say where your store is: def url(self) -> str")

    def target(self) -> object:
        """What `connect` gets where that is not the URL: a driver's client, for example."""
        return self.url()

    # What cases use.

    @pytest.fixture(params=sorted(FACES))
    def face(self, request: pytest.FixtureRequest) -> Iterator[Face]:
        """The runtime of this run of the case."""
        self.namespace = f"c{uuid.uuid4().hex[:16]}"
        return FACES[request.param]()  # type: ignore[return-value]

    namespace: str

    def connect(self, face: Face, **settings: Any) -> aio.AsyncClient:
        """A client in this case's namespace; closed when the case ends."""
        return face.connect(self.target(), **({"namespace": self.namespace} | settings))

    def store(self, face: Face, namespace: str | None = None) -> Store:
        """The bare store in this case's namespace; closed when the case ends."""
        return face.store(self.target(), namespace or self.namespace)

    def guarantees(self, face: Face) -> Guarantee:
        """What the store declares."""
        return face.store(self.target(), "unused").guarantees

    def one_process(self, face: Face) -> bool:
        """Whether the store declares to live in one process."""
        return face.store(self.target(), "unused").one_process

    async def lives_in_one_process(self, face: Face) -> None:
        """A store in one process is invisible to others: what is held here is free there."""
        lease = await self.connect(face).lock("n").acquire(wait=0)
        with Worker(self.url(), runtime=face.name, namespace=self.namespace) as worker:
            assert isinstance(await face.call(lambda: worker.ask("acquire", name="n", wait=0)), int)
        assert await lease.release() is True

    async def has_locks_alone(self, face: Face) -> None:
        """A store of exclusive locks refuses everything else, when it is asked for and when it is claimed."""
        client = self.connect(face)
        with pytest.raises(GuaranteeMissing):
            client.semaphore("n", limit=2)
        with pytest.raises(GuaranteeMissing):
            client.rwlock("n")
        with pytest.raises(GuaranteeMissing):
            await self.store(face).acquire(self.claim(limit=2), queue=False)
        assert not (await client.inspect("n")).holders

    async def refused(self, face: Face, missing: Guarantee) -> None:
        """A store that lacks a guarantee says so when it is asked for by name."""
        with pytest.raises(GuaranteeMissing):
            self.connect(face, require=missing)
        if Guarantee.LOCK_DELAY in missing:
            with pytest.raises(GuaranteeMissing):
                self.connect(face).lock("x", lock_delay=1.0)
        if missing & NEEDS:
            with pytest.raises(GuaranteeMissing):
                self.connect(face).election("x")
        if Guarantee.CELLS in missing:
            with pytest.raises(GuaranteeMissing):
                self.connect(face).cell("x")
        if Guarantee.CLOCK in missing:
            assert await self.store(face).now() is None
            with pytest.raises(GuaranteeMissing, match=r"such as .*memory://"):
                self.connect(face).rate_limit("x", "70/s")
            with pytest.raises(GuaranteeMissing):
                await self.store(face).pace("x", pacing.parse(["70/s"]), 1, at_most=0.0)

    def claim(
        self,
        name: str = "n",
        *,
        ttl: float = 30.0,
        permits: int = 1,
        limit: int = 1,
        waiter_ttl: float = 10.0,
        lock_delay: float = 0.0,
        info: str = '{"host":"h","pid":1}',
    ) -> Claim:
        """A claim with an owner of its own."""
        owner = f"{next(_owners):08x}{uuid.uuid4().hex[8:]}"
        key = names.encode(name)
        return Claim(name, key, owner, ttl, permits, limit, min(waiter_ttl, ttl), lock_delay, info)

    async def granted(self, store: Store, claim: Claim) -> Grant:
        """The grant of a claim that must get one at once."""
        reply = await store.acquire(claim, queue=False)
        assert isinstance(reply, Grant), f"refused: {reply!r}"
        assert reply.claim == claim
        return reply

    async def queued(self, store: Store, claim: Claim) -> Ticket:
        """The ticket of a claim that must wait."""
        reply = await store.acquire(claim, queue=True)
        assert isinstance(reply, Ticket), f"not in line: {reply!r}"
        return reply

    async def word(self, store: Store, item: Grant | Ticket) -> Any:
        """The beat's answer for one."""
        grants, tickets = ([item], []) if isinstance(item, Grant) else ([], [item])
        words = await store.beat(grants, tickets, within=5.0)
        assert len(words) == 1
        return words[0]

    async def news(self, face: Face, store: Store, ticket: Ticket, within: float | None = None) -> Grant | Gone:
        """What becomes of a ticket: pushed, or found by its beats, of which one is sent every now and then."""
        deadline = time.monotonic() + (self.margin if within is None else within)
        while (news := ticket.inbox.peek()) is None:
            assert time.monotonic() < deadline, f"no news of ticket {ticket.number}"
            await store.wait(ticket, 0.05)
            if ticket.inbox.peek() is None and isinstance(word := await self.word(store, ticket), Grant | Gone):
                ticket.inbox.deliver(word)
        assert isinstance(news, Grant | Gone), news
        return news

    async def handed(self, face: Face, store: Store, ticket: Ticket, within: float | None = None) -> Grant:
        """The grant that a ticket must get."""
        grant = await self.news(face, store, ticket, within)
        assert isinstance(grant, Grant), f"passed over: {grant!r}"
        store.leave(ticket)
        return grant

    async def outlive(self, face: Face, grant: Grant) -> None:
        """Sleep until the store has let this grant expire, whose last word was answered just now."""
        await face.sleep(grant.ttl * (1 + EARLY) + 0.02)
        if Guarantee.EXACT_TTL in self.guarantees(face):
            return
        store = self.store(face)

        async def expired() -> bool:
            return grant.claim.owner not in [view.owner for view in (await store.inspect(grant.claim.name)).holders]

        await face.eventually(expired, within=self.late(face, grant.ttl) + self.margin, what="the grant expired")

    def late(self, face: Face, ttl: float) -> float:
        """Seconds by which the store may keep somebody silent longer than its ttl."""
        return 0.0 if Guarantee.EXACT_TTL in self.guarantees(face) else ttl

    def by_session(self, face: Face) -> bool:
        """Whether the store declares that claims live by their client's session."""
        return face.store(self.target(), "unused").by_session

    def by_connection(self, face: Face) -> bool:
        """Whether the store declares that a grant lives in one connection of its client."""
        return face.store(self.target(), "unused").by_connection

    def silent(self, **settings: Any) -> Claim:
        """A claim of somebody who will not be heard of again: alone with its ttl, so with a session of its own."""
        return self.claim(**({"ttl": self.short, "waiter_ttl": self.short} | settings))

    async def in_line(self, face: Face, client: Any, count: int = 1, name: str = "n") -> None:
        """Wait until so many stand in line for a name."""

        async def waiting() -> bool:
            return len((await client.inspect(name)).waiters) == count

        await face.eventually(waiting, what=f"{count} in line for {name!r}")

    async def nothing_left(self, face: Face, *names: str) -> None:
        """Neither holders nor waiters of these names, now or in a moment (abandoning may be under way)."""
        store = self.store(face)
        for name in names:

            async def gone(name: str = name) -> bool:
                found = await store.inspect(name)
                return not found.holders and not found.waiters

            await face.eventually(gone, what=f"nothing left of {name!r}")
