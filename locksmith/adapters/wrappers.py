"""The guarded form of a function: what wraps it, and looks the same from outside."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, TypeVar

from locksmith.adapters.clients import BlockingSource
from locksmith.adapters.current import current
from locksmith.adapters.guard import Refused, begin, done, failed
from locksmith.adapters.keys import KeyOf, signature_of
from locksmith.adapters.policy import Policy
from locksmith.adapters.skipped import SKIPPED
from locksmith.client import Lease
from locksmith.errors import ConfigurationError
from locksmith.runtime import drive

T = TypeVar("T")
Wrapper = Callable[..., Any]


def wrap(fn: Callable[..., Any], policy: Policy, key_of: KeyOf, client: object, store: object) -> Wrapper:
    """The guarded form of `fn`: plain, generator, async or async generator as it is. Raises ConfigurationError."""
    body = fn if inspect.isroutine(fn) or isinstance(fn, functools.partial) else type(fn).__call__
    is_generator = inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body)
    if is_generator:
        policy.for_generator()
    wrapper: Wrapper
    if inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
        # Here and not at the top: programs without async functions do not load asyncio.
        from locksmith.adapters import wrappers_async as shapes
        from locksmith.adapters.clients_async import AsyncSource

        shape = shapes.generator if is_generator else shapes.plain
        wrapper = shape(fn, policy, key_of, AsyncSource(client, store))
    else:
        wrapper = (_generator if is_generator else _plain)(fn, policy, key_of, BlockingSource(client, store))
    return _dress(wrapper, fn, key_of)


def _dress(wrapper: Any, fn: Callable[..., Any], key_of: KeyOf) -> Wrapper:
    functools.update_wrapper(wrapper, fn)
    with suppress(ConfigurationError):
        # For those who do not follow __wrapped__, as inspect.getfullargspec and what stands on it.
        wrapper.__signature__ = signature_of(fn)
    wrapper.key = lambda *args, **kwargs: key_of(args, kwargs)
    return wrapper  # type: ignore[no-any-return]  # Any, because functions have no typed attributes


def _plain(fn: Callable[..., Any], policy: Policy, key_of: KeyOf, source: BlockingSource) -> Wrapper:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        key = key_of(args, kwargs)
        run = drive(begin(source.get(), key, policy))
        if isinstance(run, Refused):
            return run.value
        token = current.set(Lease(run.engine, run.hold))
        try:
            result = _refuse_coroutine(fn, fn(*args, **kwargs))
        except BaseException:
            drive(failed(run, policy))
            raise
        finally:
            current.reset(token)
        return drive(done(run, policy, result))

    return guarded


def _generator(fn: Callable[..., Any], policy: Policy, key_of: KeyOf, source: BlockingSource) -> Wrapper:
    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        # All of this runs at the first next(): a generator that nobody iterates holds nothing.
        key = key_of(args, kwargs)
        run = drive(begin(source.get(), key, policy))
        if isinstance(run, Refused):
            yield from () if run.value is SKIPPED else run.value
            return SKIPPED
        try:
            result = yield from _steps(fn(*args, **kwargs), Lease(run.engine, run.hold))
        except BaseException:
            drive(failed(run, policy))
            raise
        return drive(done(run, policy, result))

    return guarded


def _steps(generator: Generator[Any, Any, T], lease: Lease) -> Generator[Any, Any, T]:
    """`yield from` that lends the lease to the generator while it runs, and not to its consumer between two steps."""
    step: Callable[[], Any] = functools.partial(next, generator)
    while True:
        token = current.set(lease)
        try:
            if not lease.held:
                # Not for the consumer to go on with: others may hold the name now.
                generator.close()
                lease.check()
            item = step()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration is not generic
        finally:
            current.reset(token)
        try:
            sent = yield item
        except GeneratorExit:
            token = current.set(lease)
            try:
                generator.close()
            finally:
                current.reset(token)
            raise
        except BaseException as error:  # noqa: BLE001 - the generator gets it, whatever it is
            step = functools.partial(generator.throw, error)
        else:
            step = functools.partial(generator.send, sent)


def _refuse_coroutine(fn: Callable[..., Any], result: T) -> T:
    if inspect.iscoroutine(result):
        # A plain function around an async one: what it returns would run after the name was given back.
        result.close()
        raise ConfigurationError(
            f"{getattr(fn, '__qualname__', fn)} is a plain function that returned a coroutine, which would run "
            f"unguarded: put run_once directly on the async function"
        )
    return result
