"""Leases of the asyncio face: what is given back at the end of an `async with`, and the signal that it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from locksmith.engine.core import Engine
from locksmith.engine.lease import LeaseFace, is_lost, wait_lost
from locksmith.errors import InheritedLease, LeaseLost, StoreError
from locksmith.events import logger

L = TypeVar("L", bound="AsyncBlock")


class AsyncLostSignal:
    """The end of a lease that nobody gave back, to ask for or to wait for."""

    __slots__ = ("_lease",)

    def __init__(self, lease: AsyncLease) -> None:
        self._lease = lease

    def is_set(self) -> bool:
        """Whether the lease was lost."""
        return is_lost(self._lease._hold)

    async def wait(self, timeout: float | None = None) -> bool:
        """True as soon as the lease is lost; False where it was released, or `timeout` seconds passed, before."""
        return await wait_lost(self._lease._engine, self._lease._hold, timeout)


class AsyncBlock:
    """What is given back at the end of an `async with`, if not before."""

    __slots__ = ()
    _body: asyncio.Task[Any] | None
    _cancelled_by_us: bool

    async def release(self) -> bool:
        """Give it back."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        body = self._body
        try:
            await self.release()
        except StoreError as failed:
            # The work was done under the lease; that giving back is late must not make it look undone.
            logger.debug("leaving %r: %s", self, failed)
        except InheritedLease:
            pass  # a forked child leaves the block of its parent, which holds on
        except LeaseLost as lost:
            if self._cancelled_by_us and body is not None:
                # The cancellation was our word to the body, not somebody's word to the task.
                body.uncancel()
                if isinstance(error, asyncio.CancelledError):
                    raise lost from error
            if error is None:
                raise
        except Exception:
            if error is None:
                raise

    def _cancel_body(self) -> None:
        if self._body is not None and not self._body.done():
            self._cancelled_by_us = True  # type: ignore[misc]  # a slot of each class below
            self._body.cancel(f"lost: {self!r}")


class AsyncLease(AsyncBlock, LeaseFace):
    """One acquisition. Give it back with `await release()`, or use it in an `async with`, which does."""

    __slots__ = ("_body", "_cancelled_by_us")

    def __init__(self, engine: Engine, hold: Any, body: asyncio.Task[Any] | None = None) -> None:
        super().__init__(engine, hold)
        self._body = body
        self._cancelled_by_us = False
        if body is not None:
            self.on_lost(self._cancel_body)

    @property
    def lost(self) -> AsyncLostSignal:
        """Set when the lease was lost; `await lost.wait(timeout)` waits for it."""
        return AsyncLostSignal(self)

    async def release(self) -> bool:
        """True: given back. False: was released before. Raises LeaseLost where it was lost.

        Raises StoreError where the store could not be asked: renewal has ended, giving back goes on being tried until
        the ttl has passed, and calling this again is safe.
        """
        self._body = None
        return await self._engine.release(self._hold)


class Acquisition(Generic[L]):
    """What `AsyncLock.acquire` returns: `await` it for a lease, or use it in an `async with`."""

    __slots__ = ("_acquire", "_lease")

    def __init__(self, acquire: Callable[[], Coroutine[Any, Any, L]]) -> None:
        self._acquire = acquire
        self._lease: L | None = None

    def __await__(self) -> Generator[Any, None, L]:
        return self._acquire().__await__()

    async def __aenter__(self) -> L:
        self._lease = await self
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lease is not None:
            await self._lease.__aexit__(kind, error, trace)
