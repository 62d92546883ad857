"""run_once: a function of which no two run at the same time, in whichever process or machine."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from locksmith.adapters.canonical import qualified
from locksmith.adapters.current import current_lease
from locksmith.adapters.keys import key_maker
from locksmith.adapters.policy import OnConflict, Policy
from locksmith.adapters.shapes import Keeping, Options, Skipping
from locksmith.adapters.skipped import SKIPPED, Skipped
from locksmith.adapters.wrappers import wrap
from locksmith.errors import ConfigurationError

__all__ = ["SKIPPED", "Skipped", "current_lease", "key_of", "run_once"]

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")
It = TypeVar("It", bound=Iterator[Any])
At = TypeVar("At", bound=AsyncIterator[Any])


@overload
def run_once(fn: Callable[P, It], /) -> Callable[P, It]: ...
@overload
def run_once(fn: Callable[P, At], /) -> Callable[P, At]: ...
@overload
def run_once(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R | Skipped]]: ...
@overload
def run_once(fn: Callable[P, R], /) -> Callable[P, R | Skipped]: ...
@overload
def run_once(
    template: str | None = None,
    /,
    *,
    on_conflict: Literal["raise", "join"],
    wait: float | None = None,
    once_per: float | None = None,
    **options: Unpack[Options],
) -> Keeping: ...
@overload
def run_once(
    template: str | None = None,
    /,
    *,
    on_conflict: Literal["wait"],
    wait: float | None = None,
    once_per: None = None,
    **options: Unpack[Options],
) -> Keeping: ...
@overload
def run_once(
    template: str | None = None,
    /,
    *,
    on_conflict: Literal["skip", "wait"] = "skip",
    wait: float | None = None,
    once_per: float | None = None,
    **options: Unpack[Options],
) -> Skipping[Skipped]: ...
@overload
def run_once(
    template: str | None = None,
    /,
    *,
    default: D,
    on_conflict: Literal["skip", "wait"] = "skip",
    wait: float | None = None,
    once_per: float | None = None,
    **options: Unpack[Options],
) -> Skipping[D]: ...
def run_once(
    template: str | Callable[..., Any] | None = None,
    /,
    *,
    key: str | Callable[..., str] | None = None,
    unique_on: Sequence[str] | None = None,
    on_conflict: OnConflict = "skip",
    default: object = SKIPPED,
    wait: float | None = None,
    once_per: float | None = None,
    at_least: float | None = None,
    max_hold: float | None = None,
    ttl: float | None = None,
    client: object = None,
    store: str | None = None,
) -> Any:
    """No two at the same time: of all calls with one key, in all processes that use one store, at most one runs.

    `once_per` adds: no two in the same period. Neither is "exactly once": a run that crashes was started, how far it
    got is unknown, and the next call starts it again. Works on functions, async functions, generators and async
    generators, and on methods; also bare, as `@run_once`.

    Which calls are the same, one of:

    * `template`, or `key=`: text with fields over the arguments, `"report:{user.id}:{day}"`, `"{0["id"]}"`;
    * `key=` a callable of the call's arguments that returns the text;
    * `unique_on`: names of the arguments that count, also of members of `**kwargs`; [] for none of them;
    * by default all arguments, with the function's qualified name, as a digest.

    What a call gets that is not to run, `on_conflict`:

    * "skip": SKIPPED, which is false, or `default`; a generator yields nothing, or what `default` has;
    * "raise": AlreadyRunning, with `holder` and `since`;
    * "wait": its turn, for at most `wait` seconds (None: without bound), then AcquireTimeout;
    * "join": the result of the run it waited for, as JSON gives it back; its own, where that one raised or died.

    Times are seconds. `once_per`: calls get no run for that long after the start of one that completed ("wait" skips
    them, "join" gives them the recorded result). `at_least`: the name stays taken at least that long after the start.
    `max_hold`: the lease ends then, even if the function does not. `ttl`: how soon a crash is noticed, not how long
    the function may run; its lease is renewed.

    The store: `client`, or a callable that returns one, or `store`, a URL, or else the environment variable
    LOCKSMITH_URL; looked up at the first call in each process.

    The function's own exceptions pass through and leave no completion record. Calls raise LeaseLost, with the result
    in `.result`, where the lease was lost while the function ran; StoreError where the store cannot be asked, and
    then nothing was run; ConfigurationError, GuaranteeMissing, SelfDeadlock. Decorating raises ConfigurationError.
    """

    def decorate(fn: Any) -> Any:
        if isinstance(fn, staticmethod | classmethod):
            # @run_once above @classmethod: the function inside is what takes the arguments.
            return type(fn)(decorate(fn.__func__))
        if inspect.isclass(fn) or not callable(fn):
            raise ConfigurationError(f"run_once decorates functions and methods, not {fn!r}")
        policy = Policy(qualified(fn), on_conflict, default, wait, once_per, at_least, max_hold, ttl)
        return wrap(fn, policy, key_maker(fn, pattern, key, unique_on), client, store)

    if template is None or isinstance(template, str):
        pattern = template
        return decorate
    pattern = None
    return decorate(template)


def key_of(fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> str:
    """The name that a call of a decorated function with these arguments locks, as `locksmith show` takes it.

    Raises ConfigurationError for a function that is not decorated, and where the call would raise it for its key.
    """
    maker = getattr(fn, "key", None)
    if maker is None:
        raise ConfigurationError(f"{qualified(fn)} is not decorated with run_once")
    return cast("str", maker(*args, **kwargs))
