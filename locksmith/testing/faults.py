"""Faults at chosen places: a store that fails at its n-th call, a task that is cancelled at its k-th await.

Made to be exhaustive: run a scenario with the fault at place 1, 2, 3, ... until it passes without meeting it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from locksmith.aio import AsyncClient
from locksmith.client import Client
from locksmith.connecting import Settings
from locksmith.engine.core import Engine
from locksmith.events import Hook
from locksmith.runtime import Runtime
from locksmith.store import ANY, Cell, Claim, Expect, Grant, Guarantee, Inspection, Page, Store, Ticket, Word

T = TypeVar("T")
When = Literal["before", "after"]


class Call(NamedTuple):
    """One call of a store."""

    number: int
    verb: str
    context: object
    """The thread or task that calls: see Runtime.context."""
    arguments: tuple[Any, ...]


class FaultyStore(Store):
    """Another store, and what befalls its calls.

    `before` and `after` are called with every Call, before it reaches the inner store and after that has acted; what
    they raise takes the place of the answer, and what they return is awaited if it can be. `calls` has all of them.
    """

    # What the class says of other stores, each of these says of the store that it was given.
    guarantees: Guarantee  # type: ignore[misc]
    min_ttl: float  # type: ignore[misc]
    one_process: bool  # type: ignore[misc]
    by_session: bool  # type: ignore[misc]

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.runtime = inner.runtime
        self.namespace = inner.namespace
        self.guarantees = inner.guarantees
        self.min_ttl = inner.min_ttl
        self.one_process = inner.one_process
        self.by_session = inner.by_session
        self.calls: list[Call] = []
        self.before: Callable[[Call], object] | None = None
        self.after: Callable[[Call], object] | None = None

    @classmethod
    def from_url(cls, url: str, *, runtime: Runtime, namespace: str) -> FaultyStore:
        """See Store.from_url: over the store of that URL."""
        from locksmith import registry

        return cls(registry.open_store(url, runtime=runtime, namespace=namespace))

    def fail_at(
        self, number: int, when: When, error: Callable[[], BaseException], *, mine: object = None
    ) -> list[Call]:
        """Raise at the n-th call from now on (of the context `mine`, if given); the list returned then has the Call."""
        met: list[Call] = []
        seen: list[int] = []

        def fault(call: Call) -> None:
            if met or (mine is not None and call.context != mine):
                return
            seen.append(call.number)
            if len(seen) == number:
                met.append(call)
                raise error()

        self.before, self.after = (fault, None) if when == "before" else (None, fault)
        return met

    def verbs(self) -> list[str]:
        """The verbs of all calls so far, in order."""
        return [call.verb for call in self.calls]

    async def _call(self, verb: str, arguments: tuple[Any, ...], act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        call = Call(len(self.calls) + 1, verb, self.runtime.context(), arguments)
        self.calls.append(call)
        await _befall(self.before, call)
        answer = await act()
        await _befall(self.after, call)
        return answer

    # The store interface.

    @property
    def address(self) -> str:
        return self.inner.address

    async def acquire(self, claim: Claim, *, queue: bool) -> Grant | Ticket | None:
        return await self._call("acquire", (claim, queue), lambda: self.inner.acquire(claim, queue=queue))

    def takes_together(self, claims: Sequence[Claim]) -> bool:
        return self.inner.takes_together(claims)

    async def acquire_all(self, claims: Sequence[Claim]) -> list[Grant] | None:
        return await self._call("acquire_all", (claims,), lambda: self.inner.acquire_all(claims))

    async def wait(self, ticket: Ticket, timeout: float | None) -> None:
        # Not counted: it sends nothing, and how often it is called is the engine's business.
        await self.inner.wait(ticket, timeout)

    def leave(self, ticket: Ticket) -> None:
        self.inner.leave(ticket)

    async def beat(self, grants: Sequence[Grant], tickets: Sequence[Ticket], *, within: float) -> list[Word]:
        beat = lambda: self.inner.beat(grants, tickets, within=within)  # noqa: E731
        return await self._call("beat", (grants, tickets), beat)

    async def release(self, grant: Grant) -> bool:
        return await self._call("release", (grant,), lambda: self.inner.release(grant))

    async def abandon(self, claim: Claim, *, tombstone: bool) -> None:
        abandon = lambda: self.inner.abandon(claim, tombstone=tombstone)  # noqa: E731
        await self._call("abandon", (claim, tombstone), abandon)

    async def inspect(self, name: str) -> Inspection:
        return await self.inner.inspect(name)

    async def names(self, prefix: str, after: str | None = None) -> Page:
        return await self.inner.names(prefix, after)

    async def evict(self, name: str, token: int) -> bool:
        return await self.inner.evict(name, token)

    async def cells(self, prefix: str, after: str | None = None) -> Page:
        return await self.inner.cells(prefix, after)

    async def get(self, key: str) -> Cell | None:
        return await self._call("get", (key,), lambda: self.inner.get(key))

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        put = lambda: self.inner.put(key, value, expect=expect, ttl=ttl, guard=guard)  # noqa: E731
        return await self._call("put", (key, value), put)

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        return await self._call("delete", (key,), lambda: self.inner.delete(key, expect=expect, guard=guard))

    async def now(self) -> int | None:
        return await self.inner.now()

    async def close(self) -> None:
        await self.inner.close()

    def after_fork(self) -> None:
        self.inner.after_fork()


async def _befall(what: Callable[[Call], object] | None, call: Call) -> None:
    if what is not None:
        done = what(call)
        if isinstance(done, Awaitable):
            await done


def client_over(store: Store, *, ttl: float = 30.0, waiter_ttl: float = 10.0, hooks: Iterable[Hook] = ()) -> Client:
    """A blocking client over a store that was made by hand, with a Blocking runtime."""
    return Client(Settings(Engine(store, store.runtime, list(hooks)), ttl, waiter_ttl))


def async_client_over(
    store: Store, *, ttl: float = 30.0, waiter_ttl: float = 10.0, hooks: Iterable[Hook] = ()
) -> AsyncClient:
    """An asyncio client over a store that was made by hand, with an Asyncio runtime."""
    return AsyncClient(Settings(Engine(store, store.runtime, list(hooks)), ttl, waiter_ttl))


# ---------------------------------------------------------------------------------------------------- cancellation


class Cancelling:
    """Await this instead of a coroutine, in a task of its own: the task is cancelled at the k-th suspension.

    With `late`, what it waits for at that place happens, and the cancellation arrives just then: the answer is there,
    and the task is cancelled all the same.
    """

    def __init__(self, work: Coroutine[Any, Any, T], at: int, *, late: bool = False) -> None:
        self._work = work
        self._at = at
        self._late = late
        self.suspensions = 0
        """How often it has suspended so far; below `at` at the end: it was never cancelled."""

    @property
    def met(self) -> bool:
        """Whether the place was reached."""
        return self.suspensions >= self._at

    def __await__(self) -> Generator[Any, Any, Any]:
        send: Callable[[], Any] = lambda: self._work.send(None)  # noqa: E731
        while True:
            try:
                waits_for = send()
            except StopIteration as done:
                return done.value
            self.suspensions += 1
            if self.suspensions == self._at:
                self._cancel(waits_for)
            try:
                answer = yield waits_for
            except BaseException as error:  # noqa: BLE001 - passed on to where it belongs
                send = _throwing(self._work, error)
            else:
                send = _sending(self._work, answer)

    def _cancel(self, waits_for: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._late and isinstance(waits_for, asyncio.Future):
            # Called before the task's own wake-up, which was not added yet.
            waits_for.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()


def _sending(work: Coroutine[Any, Any, Any], answer: Any) -> Callable[[], Any]:
    return lambda: work.send(answer)


def _throwing(work: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(error)


async def cancel_everywhere(
    scenario: Callable[[], Coroutine[Any, Any, object]],
    check: Callable[[int, bool], Awaitable[None]],
    *,
    most: int = 500,
) -> int:
    """Run a scenario again and again, cancelled at its first await, its second, ..., until it comes through.

    Once right away at each place and once just as the answer arrives. `check(place, late)` is awaited after each run.
    Returns the number of places.
    """
    for place in range(1, most):
        met = []
        for late in (False, True):
            cancelling = Cancelling(scenario(), place, late=late)
            task = asyncio.ensure_future(_awaiting(cancelling))
            await asyncio.wait([task])
            met.append(cancelling.met)
            if not task.cancelled() and (error := task.exception()) is not None and not cancelling.met:
                raise error
            await check(place, late)
        if not any(met):
            return place - 1
    raise AssertionError(f"the scenario has more than {most} awaits")


async def _awaiting(work: Cancelling) -> object:
    return await work


def places(run: Callable[[int, When], bool], *, most: int = 500) -> Iterator[tuple[int, When]]:
    """Call `run(n, when)` for n = 1, 2, ... before and after, until it says for both that no fault was met."""
    sides: tuple[When, ...] = ("before", "after")
    for number in range(1, most):
        met = []
        for when in sides:
            met.append(run(number, when))
            if met[-1]:
                yield number, when
        if not any(met):
            return
    raise AssertionError(f"the scenario has more than {most} calls")
