"""The blocking face with the asyncio face's methods: each call blocks its thread, and never suspends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from locksmith.runtime import drive

T = TypeVar("T")


class _Shim:
    """Everything that is not a coroutine in the other face is the real object's own."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __repr__(self) -> str:
        return repr(self.real)


class _Awaited(_Shim):
    """All methods are coroutines in the other face."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)

        async def call(*values: Any, **settings: Any) -> Any:
            return found(*values, **{word: _real(value) for word, value in settings.items()})

        return call if callable(found) else found


def _real(value: Any) -> Any:
    return value.real if isinstance(value, _Shim) else value


class ClientShim(_Shim):
    """An `AsyncClient` whose methods block, over the `Client` that it is given."""

    def lock(self, name: str, **settings: Any) -> _Lock:
        return _Lock(self.real.lock(name, **settings))

    def semaphore(self, name: str, **settings: Any) -> _Lock:
        return _Lock(self.real.semaphore(name, **settings))

    def rwlock(self, name: str, **settings: Any) -> _RWLock:
        return _RWLock(self.real.rwlock(name, **settings))

    def lock_all(self, names: Iterable[str], **settings: Any) -> _Lock:
        return _Lock(self.real.lock_all(names, **settings))

    def election(self, name: str, **settings: Any) -> _Election:
        return _Election(self.real.election(name, **settings))

    def cell(self, name: str, **settings: Any) -> _Cell:
        return _Cell(self.real.cell(name, **settings))

    def rate_limit(self, name: str, *rates: str, **settings: Any) -> _Awaited:
        return _Awaited(self.real.rate_limit(name, *rates, **settings))

    async def inspect(self, name: str) -> Any:
        return self.real.inspect(name)

    async def names(self, prefix: str = "") -> AsyncIterator[str]:
        for name in self.real.names(prefix):
            yield name

    async def evict(self, name: str, token: int) -> bool:
        return cast(bool, self.real.evict(name, token))

    async def diagnose(self) -> Any:
        return self.real.diagnose()

    async def close(self) -> None:
        self.real.close()

    async def __aenter__(self) -> Self:
        self.real.__enter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.real.__exit__(*exc)


class _RWLock(_Shim):
    def read(self) -> _Lock:
        return _Lock(self.real.read())

    def write(self) -> _Lock:
        return _Lock(self.real.write())


class _Lock(_Shim):
    def acquire(self, **settings: Any) -> _Acquisition:
        return _Acquisition(lambda: _Lease(self.real.acquire(**settings)))

    async def try_acquire(self, **settings: Any) -> _Lease | None:
        lease = self.real.try_acquire(**settings)
        return None if lease is None else _Lease(lease)


class _Election(_Shim):
    def campaign(self, **settings: Any) -> _Acquisition:
        return _Acquisition(lambda: _Lease(self.real.campaign(**settings)))

    @property
    def leading(self) -> _Lease | None:
        found = self.real.leading
        return None if found is None else _Lease(found)

    async def resign(self) -> bool:
        return cast(bool, self.real.resign())

    async def proclaim(self, value: object) -> None:
        self.real.proclaim(value)

    async def leader(self) -> Any:
        return self.real.leader()

    def observe(self, **settings: Any) -> _Changes:
        return _Changes(self.real.observe(**settings))

    async def run(self, fn: Callable[[Any], Coroutine[Any, Any, T]], **settings: Any) -> T | None:
        return cast("T | None", self.real.run(lambda lease: drive(fn(_Lease(lease))), **settings))


class _Cell(_Awaited):
    def watch(self, **settings: Any) -> _Changes:
        return _Changes(self.real.watch(**settings))


class _Changes(_Shim):
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        for found in self.real:
            return found
        raise StopAsyncIteration


class _Acquisition:
    def __init__(self, acquire: Callable[[], _Lease]) -> None:
        self._acquire = acquire
        self._lease: _Lease | None = None

    def __await__(self) -> Generator[Any, None, _Lease]:
        yield from ()
        return self._acquire()

    async def __aenter__(self) -> _Lease:
        self._lease = await self
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lease is not None
        await self._lease.__aexit__(kind, error, trace)


class _Lease(_Shim):
    async def proclaim(self, value: object) -> None:
        self.real.proclaim(value)

    async def resign(self) -> bool:
        return cast(bool, self.real.resign())

    @property
    def lost(self) -> _Lost:
        return _Lost(self.real.lost)

    async def release(self) -> bool:
        return cast(bool, self.real.release())

    async def __aenter__(self) -> Self:
        self.real.__enter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.real.__exit__(*exc)


class _Lost(_Shim):
    async def wait(self, timeout: float | None = None) -> bool:
        return cast(bool, self.real.wait(timeout))
