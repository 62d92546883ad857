"""rate_limited: a function that is called at most so many times in any window, by all processes together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from locksmith import names, pacing
from locksmith.adapters.canonical import qualified
from locksmith.adapters.clients import BlockingSource
from locksmith.adapters.keys import key_maker, signature_of
from locksmith.errors import ConfigurationError
from locksmith.recipes.permits import check_count, check_wait
from locksmith.recipes.rates import RateRecipe
from locksmith.runtime import drive

if TYPE_CHECKING:
    from locksmith.adapters.shapes import Keeping
    from locksmith.aio import AsyncClient
    from locksmith.client import Client

T = TypeVar("T")
OnLimit: TypeAlias = Literal["wait", "raise"]
_CHOICES: Final = ("wait", "raise")


class _Pacing:
    """What the decorator was told, for one function: pure until a call comes. Raises ConfigurationError."""

    def __init__(
        self,
        fn: Callable[..., Any],
        rates: tuple[pacing.Rate, ...],
        key: str | Callable[..., str] | None,
        on_limit: str,
        wait: float | None,
        cost: int,
        name: str | None,
    ) -> None:
        if on_limit not in _CHOICES:
            raise ConfigurationError(f"on_limit is one of {', '.join(_CHOICES)}, not {on_limit!r}")
        if wait is not None and on_limit != "wait":
            raise ConfigurationError('wait= is for on_limit="wait"; "raise" does not wait')
        self.name = qualified(fn) if name is None else name
        names.encode(self.name)
        self.rates = rates
        self.cost = check_count("cost", cost, most=min(rate.most for rate in rates))
        self.patience = check_wait(wait) if on_limit == "wait" else 0.0
        self._key_of = None if key is None else key_maker(fn, None, key, None)

    async def take(self, client: Client | AsyncClient, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Wait for the slot of a call, or raise RateLimited."""
        key = None if self._key_of is None else self._key_of(args, kwargs)
        await RateRecipe(client._engine, self.name, self.rates).take(self.cost, self.patience, key)


def rate_limited(
    *rates: str,
    key: str | Callable[..., str] | None = None,
    burst: int | Sequence[int] = 0,
    on_limit: OnLimit = "wait",
    wait: float | None = None,
    cost: int = 1,
    name: str | None = None,
    client: Client | AsyncClient | Callable[[], Client] | Callable[[], AsyncClient] | None = None,
    store: str | None = None,
) -> Keeping:
    """At most so many calls start in any window, in all processes that use one store: `@rate_limited("70/s")`.

    Works on functions, async functions and methods. `rates` and `burst` as in `Client.rate_limit`.

    `key`: text with fields over the arguments, "{user.id}", or a callable of the call's arguments that returns the
    text; each key has a limit of its own. `name`: what the limit is called, by default as the function with its module;
    functions with one name share a limit. `cost`: how many a call counts for.

    `on_limit`: "wait" lets a call wait for its slot, for at most `wait` seconds (None: without bound), and raises
    RateLimited at once where that is too short; "raise" raises it where the call may not start now.

    The store: `client`, or a callable that returns one, or `store`, a URL, or else the environment variable
    LOCKSMITH_URL; looked up at the first call in each process.

    Calls raise RateLimited, StoreError where the store cannot be asked, and then nothing was run, GuaranteeMissing,
    ConfigurationError. Decorating raises ConfigurationError.
    """
    if not rates or not all(isinstance(rate, str) for rate in rates):
        raise ConfigurationError("rate_limited is called with its rates: @rate_limited('70/s')")
    parsed = pacing.parse(rates, burst)

    def decorate(fn: Any) -> Any:
        if isinstance(fn, staticmethod | classmethod):
            # @rate_limited above @classmethod: the function inside is what takes the arguments.
            return type(fn)(decorate(fn.__func__))
        if inspect.isclass(fn) or not callable(fn):
            raise ConfigurationError(f"rate_limited decorates functions and methods, not {fn!r}")
        return _wrap(fn, _Pacing(fn, parsed, key, on_limit, wait, cost, name), client, store)

    return decorate


def _wrap(fn: Callable[..., Any], limit: _Pacing, client: object, store: object) -> Callable[..., Any]:
    body = fn if inspect.isroutine(fn) or isinstance(fn, functools.partial) else type(fn).__call__
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        # Whether its start or its items are meant nobody can tell.
        raise ConfigurationError(f"{qualified(fn)} is a generator: decorate the function that makes one item")
    wrapper: Any
    if inspect.iscoroutinefunction(body):
        from locksmith.adapters.clients_async import AsyncSource  # programs without async functions load no asyncio

        wrapper = _asynchronous(fn, limit, AsyncSource(client, store))
    else:
        wrapper = _plain(fn, limit, BlockingSource(client, store))
    functools.update_wrapper(wrapper, fn)
    with suppress(ConfigurationError):
        # For those who do not follow __wrapped__, as inspect.getfullargspec and what stands on it.
        wrapper.__signature__ = signature_of(fn)
    return wrapper  # type: ignore[no-any-return]  # Any, because functions have no typed attributes


def _plain(fn: Callable[..., T], limit: _Pacing, source: BlockingSource) -> Callable[..., T]:
    def paced(*args: Any, **kwargs: Any) -> T:
        drive(limit.take(source.get(), args, kwargs))
        return fn(*args, **kwargs)

    return paced


def _asynchronous(fn: Callable[..., Any], limit: _Pacing, source: Any) -> Callable[..., Any]:
    async def paced(*args: Any, **kwargs: Any) -> Any:
        await limit.take(await source.get(), args, kwargs)
        return await fn(*args, **kwargs)

    return paced
