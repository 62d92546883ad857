"""What the leases of both faces have in common: everything that needs no waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from locksmith.engine import telling
from locksmith.engine.core import Engine
from locksmith.engine.hold import Hold, State
from locksmith.store import Grant, Store

F = TypeVar("F", bound=Callable[..., Any])


class LeaseFace:
    """One acquisition, in the user's hands. Usable from any thread; worth nothing in a forked child."""

    __slots__ = ("_engine", "_hold")

    def __init__(self, engine: Engine, hold: Hold) -> None:
        self._engine = engine
        self._hold = hold

    @property
    def name(self) -> str:
        """The name that is held."""
        return self._hold.grant.claim.name

    @property
    def token(self) -> int:
        """The fencing token: grows with every grant of this name. Have the guarded resource compare it."""
        return self._hold.grant.token

    @property
    def ttl(self) -> float:
        """Seconds the store keeps this lease if it hears nothing: what was granted, which may be more than asked."""
        return self._hold.grant.ttl

    @property
    def permits(self) -> int:
        """How many permits this lease has."""
        return self._hold.grant.claim.permits

    @property
    def grants(self) -> tuple[Grant, ...]:
        """What the store granted, for each name that is held: for guards that compare more than the token."""
        return (self._hold.grant,)

    @property
    def store(self) -> Store:
        """The store that granted it: for guards, which read the same keys."""
        return self._engine.store

    @property
    def held(self) -> bool:
        """Whether the lease can be trusted now: a comparison with its deadline, right even if renewal is starved."""
        return self._hold.held

    def remaining(self) -> float:
        """Seconds until the deadline unless a renewal moves it; 0.0 once the lease is over."""
        return self._hold.remaining()

    def check(self) -> None:
        """Raises LeaseLost from the moment on when the lease cannot be trusted any more."""
        self._hold.check()

    def on_lost(self, fn: F) -> F:
        """Have `fn` called once when the lease is lost, at its deadline at the latest; at once if it is lost already.

        `fn` takes no argument, or this lease. It runs beside the keeper, on a thread or task of its own. Never called
        for a lease that was released. Returns `fn`, so this is a decorator as well.
        """
        self._hold.on_lost.append(bind(fn, self))
        if self._hold.state is State.LOST and self._hold.grant.claim.owner not in self._engine.keeper.holds:
            self._engine.keeper.call_lost(self._hold)
        return fn

    def on_suspect(self, fn: F) -> F:
        """Have `fn` called when a renewal fails for the first time in a row: held still, but look at `remaining()`."""
        self._hold.on_suspect.append(bind(fn, self))
        return fn

    def __repr__(self) -> str:
        state = "suspect" if self._hold.suspect else self._hold.state.value
        return f"<{type(self).__name__} {self.name!r} token={self.token} {state} remaining={self.remaining():.3f}>"


def bind(fn: Callable[..., Any], lease: object) -> Callable[[], Any]:
    """A user's callback, which takes no argument or the lease, as one that takes none."""
    import inspect  # not at the top: it is a third of our import time, and few leases have callbacks

    try:
        inspect.signature(fn).bind()
    except TypeError:
        return lambda: fn(lease)
    except ValueError:  # some builtins do not tell
        pass
    # Whatever can be called without arguments is: a default (`lambda name=name: ...`) belongs to whoever wrote it.
    return fn


async def wait_lost(engine: Engine, hold: Hold, timeout: float | None) -> bool:
    """True as soon as the lease is lost; False where it was released, or `timeout` seconds passed, before."""
    if hold.lost_event is None:
        hold.lost_event = engine.runtime.event()
    ends = None if timeout is None else hold.now() + timeout
    while hold.held:
        # Bounded by the deadline: whoever waits here learns of it even if the keeper never runs again.
        left = hold.valid_until - hold.now()
        if ends is not None:
            left = min(left, ends - hold.now())
            if left <= 0:
                return False
        await hold.lost_event.wait(max(left, 0.0))
    return is_lost(hold)


def is_lost(hold: Hold) -> bool:
    """Whether the lease ended without being given back."""
    return not hold.held and hold.state in (State.LOST, State.INHERITED)


def give_up(engine: Engine, hold: Hold) -> None:
    """Give a hold back where nothing can be awaited: it is renewed no more, and the keeper releases it."""
    if engine.keeper.drop(hold):
        hold.state = State.RELEASING
        hold.release_unknown = True
        engine._let_go(hold)
        engine._owe(hold.grant.claim)
        telling.released(engine.hooks, hold)
