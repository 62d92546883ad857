"""What type checkers see of `run_once`: parameters stay, and so do results, unless a call may be skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypedDict, TypeVar, overload

if TYPE_CHECKING:
    from locksmith.aio import AsyncClient
    from locksmith.client import Client

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
D_co = TypeVar("D_co", covariant=True)
It = TypeVar("It", bound=Iterator[Any])
At = TypeVar("At", bound=AsyncIterator[Any])


class Options(TypedDict, total=False):
    """The settings that do not change what a call returns."""

    key: str | Callable[..., str] | None
    unique_on: Sequence[str] | None
    at_least: float | None
    max_hold: float | None
    ttl: float | None
    client: Client | AsyncClient | Callable[[], Client] | Callable[[], AsyncClient] | None
    store: str | None


class Keeping(Protocol):
    """A decorator after which a function returns what it returned: no call is skipped."""

    def __call__(self, fn: F, /) -> F:
        """Decorate."""
        ...


class Skipping(Protocol[D_co]):
    """A decorator after which a call may return D, because it was skipped. Generators yield nothing instead."""

    @overload
    def __call__(self, fn: Callable[P, It], /) -> Callable[P, It]: ...
    @overload
    def __call__(self, fn: Callable[P, At], /) -> Callable[P, At]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R | D_co]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R | D_co]: ...
