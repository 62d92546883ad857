"""The guarded form of async functions: `locksmith.adapters.wrappers`, awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from locksmith.adapters.clients_async import AsyncSource
from locksmith.adapters.current import current
from locksmith.adapters.guard import Refused, begin, done, dropped, failed
from locksmith.adapters.keys import KeyOf
from locksmith.adapters.policy import Policy
from locksmith.adapters.skipped import SKIPPED
from locksmith.aio import AsyncLease

Wrapper = Callable[..., Any]


def plain(fn: Callable[..., Any], policy: Policy, key_of: KeyOf, source: AsyncSource) -> Wrapper:
    """An async function's guarded form."""

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        key = key_of(args, kwargs)
        run = await begin(await source.get(), key, policy)
        if isinstance(run, Refused):
            return run.value
        # `finish`: a cancelled caller still writes the record and gives the name back.
        finish = run.engine.runtime.finish
        token = current.set(AsyncLease(run.engine, run.hold))
        try:
            result = await fn(*args, **kwargs)
        except GeneratorExit:
            dropped(run)
            raise
        except BaseException:
            await finish(failed(run, policy))
            raise
        finally:
            current.reset(token)
        return await finish(done(run, policy, result))

    return guarded


def generator(fn: Callable[..., Any], policy: Policy, key_of: KeyOf, source: AsyncSource) -> Wrapper:
    """An async generator function's guarded form."""

    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        key = key_of(args, kwargs)
        run = await begin(await source.get(), key, policy)
        if isinstance(run, Refused):
            for item in () if run.value is SKIPPED else run.value:
                yield item
            return
        finish = run.engine.runtime.finish
        lease = AsyncLease(run.engine, run.hold)
        try:
            inner = fn(*args, **kwargs)
            step = _Step(inner, lease)
            sent: Any = None
            while await step.send(sent):
                try:
                    sent = yield step.item
                except GeneratorExit:
                    await step.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - the generator gets it, whatever it is
                    sent = _Thrown(error)
        except BaseException:
            await finish(failed(run, policy))
            raise
        await finish(done(run, policy, None))

    return guarded


class _Thrown:
    """What the consumer threw into the generator."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Step:
    """Runs an async generator step by step, and lends it the lease while it runs."""

    def __init__(self, inner: AsyncGenerator[Any, Any], lease: AsyncLease) -> None:
        self._inner = inner
        self._lease = lease
        self.item: Any = None

    async def send(self, sent: Any) -> bool:
        """Go to the next item, which is then in `item`; False at the end."""
        token = current.set(self._lease)
        try:
            if not self._lease.held:
                # Not for the consumer to go on with: others may hold the name now.
                await self._inner.aclose()
                self._lease.check()
            if isinstance(sent, _Thrown):
                self.item = await self._inner.athrow(sent.error)
            else:
                self.item = await self._inner.asend(sent)
        except StopAsyncIteration:
            return False
        finally:
            current.reset(token)
        return True

    async def close(self) -> None:
        """The consumer left."""
        token = current.set(self._lease)
        try:
            await self._inner.aclose()
        finally:
            current.reset(token)
