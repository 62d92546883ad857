"""One body for both faces: cases are written once, against the asyncio face's methods, and run in both runtimes.

In the asyncio runtime they get the real `AsyncClient`. In the blocking one they get a thin shim with the same methods
over the real `Client`: each call blocks its thread, never suspends, and the coroutine of the case is simply driven to
its end. What runs beside the case (`Face.start`) is a task there and a thread here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, ClassVar, Generic, TypeVar, cast

from locksmith import aio, client, registry
from locksmith.runtime import Blocking, Clock, Runtime, drive
from locksmith.runtime_asyncio import Asyncio
from locksmith.store import Store
from locksmith.testing.contract.shims import ClientShim
from locksmith.testing.faults import async_client_over, client_over

T = TypeVar("T")

CASE_LIMIT = 120.0
"""Seconds after which a case in the asyncio runtime is cancelled."""


class Job(ABC, Generic[T]):
    """Something that runs beside a case."""

    @abstractmethod
    def done(self) -> bool:
        """Whether it has ended."""

    @abstractmethod
    async def result(self, within: float = 20.0) -> T:
        """What it returned or raised, waited for at most `within` seconds."""


class Face(ABC):
    """A runtime to run a case in, and what the case needs of it."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self._opened: list[Callable[[], Coroutine[Any, Any, None]]] = []

    @abstractmethod
    def run(self, body: Coroutine[Any, Any, T]) -> T:
        """Run a case to its end; what it opened is closed then."""

    @abstractmethod
    def start(self, body: Coroutine[Any, Any, T]) -> Job[T]:
        """Run a coroutine beside the case."""

    @abstractmethod
    def runtime(self, clock: Clock | None = None) -> Runtime:
        """A runtime for a store."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def call(self, fn: Callable[[], T]) -> T:
        """Call something that blocks; in asyncio on a thread, so that the keeper goes on."""

    @abstractmethod
    def connect(self, target: object, **settings: Any) -> aio.AsyncClient:
        """A client of this face, with the methods of the asyncio one. Closed at the end of the case."""

    @abstractmethod
    def client_over(self, store: Store) -> aio.AsyncClient:
        """A client of this face over a store that was made by hand. Whoever made it closes it."""

    def store(self, target: object, namespace: str, clock: Clock | None = None) -> Store:
        """The bare store, without an engine. Closed at the end of the case."""
        store = registry.open_store(target, runtime=self.runtime(clock), namespace=namespace)
        self._opened.append(store.close)
        return store

    async def eventually(self, ask: Callable[[], Any], *, within: float = 10.0, what: str = "a truthy answer") -> Any:
        """The first truthy answer (`ask` may be a coroutine function), asked for what has no event to wait for."""
        deadline = time.monotonic() + within
        pause = 0.002
        while True:
            said = ask()
            answer = await said if isinstance(said, Awaitable) else said
            if answer:
                return answer
            if time.monotonic() >= deadline:
                raise AssertionError(f"not within {within:g} s: {what} (last answer: {answer!r})")
            await self.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    async def _close_all(self) -> None:
        for close in reversed(self._opened):
            await close()
        self._opened.clear()


# ---------------------------------------------------------------------------------------------------- asyncio


class _TaskJob(Job[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self._task = task

    def done(self) -> bool:
        return self._task.done()

    async def result(self, within: float = 20.0) -> T:
        return await asyncio.wait_for(asyncio.shield(self._task), within)


class AsyncioFace(Face):
    """Cases as they are, on an event loop of their own."""

    name = "asyncio"

    def run(self, body: Coroutine[Any, Any, T]) -> T:
        """See Face.run."""

        async def whole() -> T:
            try:
                async with asyncio.timeout(CASE_LIMIT):
                    return await body
            finally:
                await self._close_all()

        return asyncio.run(whole())

    def start(self, body: Coroutine[Any, Any, T]) -> Job[T]:
        """See Face.start: a task."""
        return _TaskJob(asyncio.get_running_loop().create_task(body))

    def runtime(self, clock: Clock | None = None) -> Runtime:
        """See Face.runtime."""
        return Asyncio(clock)

    async def sleep(self, seconds: float) -> None:
        """See Face.sleep."""
        await asyncio.sleep(seconds)

    async def call(self, fn: Callable[[], T]) -> T:
        """See Face.call."""
        return await asyncio.to_thread(fn)

    def connect(self, target: object, **settings: Any) -> aio.AsyncClient:
        """See Face.connect."""
        made = aio.connect(target, **settings)
        self._opened.append(made.close)
        return made

    def client_over(self, store: Store) -> aio.AsyncClient:
        """See Face.client_over."""
        return async_client_over(store)


# ---------------------------------------------------------------------------------------------------- blocking


class _ThreadJob(Job[T]):
    def __init__(self, body: Coroutine[Any, Any, T]) -> None:
        self._future: Future[T] = Future()
        self._body = body
        threading.Thread(target=self._run, name="case-job", daemon=True).start()

    def _run(self) -> None:
        try:
            self._future.set_result(drive(self._body))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._future.set_exception(error)

    def done(self) -> bool:
        return self._future.done()

    async def result(self, within: float = 20.0) -> T:
        return self._future.result(within)


class BlockingFace(Face):
    """Cases on threads."""

    name = "blocking"

    def run(self, body: Coroutine[Any, Any, T]) -> T:
        """See Face.run."""
        try:
            return drive(body)
        finally:
            drive(self._close_all())

    def start(self, body: Coroutine[Any, Any, T]) -> Job[T]:
        """See Face.start: a thread."""
        return _ThreadJob(body)

    def runtime(self, clock: Clock | None = None) -> Runtime:
        """See Face.runtime."""
        return Blocking(clock)

    async def sleep(self, seconds: float) -> None:
        """See Face.sleep."""
        time.sleep(seconds)  # noqa: ASYNC251 - nothing but this thread runs here

    async def call(self, fn: Callable[[], T]) -> T:
        """See Face.call."""
        return fn()

    def connect(self, target: object, **settings: Any) -> aio.AsyncClient:
        """See Face.connect."""
        made = cast(aio.AsyncClient, ClientShim(client.connect(target, **settings)))
        self._opened.append(made.close)
        return made

    def client_over(self, store: Store) -> aio.AsyncClient:
        """See Face.client_over."""
        return cast(aio.AsyncClient, ClientShim(client_over(store)))


FACES: dict[str, type[Face]] = {face.name: face for face in (BlockingFace, AsyncioFace)}
