"""What the multi-leases of both faces have in common: everything that needs no waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from locksmith.engine.core import Engine
from locksmith.engine.hold import Hold, State
from locksmith.engine.lease import bind, is_lost
from locksmith.engine.together import loss_of

F = TypeVar("F", bound=Callable[..., Any])


class MultiLeaseFace:
    """Several names that were acquired together, in the user's hands. Usable from any thread, not in a forked child."""

    __slots__ = ("_ended", "_engine", "_holds")

    def __init__(self, engine: Engine, holds: Sequence[Hold]) -> None:
        self._engine = engine
        self._holds = tuple(holds)
        self._ended = engine.runtime.event()
        for hold in self._holds:
            hold.lost_event = self._ended

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are held, in the order in which they were asked for."""
        return tuple(hold.grant.claim.name for hold in self._holds)

    @property
    def tokens(self) -> Mapping[str, int]:
        """The fencing token of each name. Have each guarded resource compare the one of its name."""
        return MappingProxyType({hold.grant.claim.name: hold.grant.token for hold in self._holds})

    @property
    def ttl(self) -> float:
        """Seconds the store keeps these leases if it hears nothing: the least that was granted."""
        return min(hold.grant.ttl for hold in self._holds)

    @property
    def held(self) -> bool:
        """Whether all names can be trusted to be held now. A comparison with their deadlines, as for one lease."""
        return all(hold.held for hold in self._holds)

    def remaining(self) -> float:
        """Seconds until the first deadline unless a renewal moves it; 0.0 once one of the names is over."""
        return min(hold.remaining() for hold in self._holds)

    def check(self) -> None:
        """Raises LeaseLost, which says for which names, from the moment on when one of them cannot be trusted."""
        if ended := [hold for hold in self._holds if not hold.held]:
            raise loss_of(ended)

    def on_lost(self, fn: F) -> F:
        """Have `fn` called once when the first of the names is lost, at its deadline at the latest; or at once.

        `fn` takes no argument, or this lease. It runs beside the keeper, on a thread or task of its own. The other
        names stay held, and renewed, until this is released. Returns `fn`, so this is a decorator as well.
        """
        once = _Once(bind(fn, self))
        for hold in self._holds:
            hold.on_lost.append(once)
        keeper = self._engine.keeper
        for hold in self._holds:
            if hold.state is State.LOST and hold.grant.claim.owner not in keeper.holds:
                keeper.call_lost(hold)
        return fn

    def on_suspect(self, fn: F) -> F:
        """Have `fn` called when renewals begin to fail, of one name or of several: look at `remaining()`."""
        told, suspects = bind(fn, self), _Suspects()
        for hold in self._holds:
            hold.on_suspect.append(partial(suspects.tell, hold, told))
        return fn

    def __repr__(self) -> str:
        shown = ", ".join(f"{name!r}: {token}" for name, token in self.tokens.items())
        states = {"suspect" if hold.suspect else hold.state.value for hold in self._holds}
        return f"<{type(self).__name__} {{{shown}}} {'/'.join(sorted(states))} remaining={self.remaining():.3f}>"


class _Once:
    """A function that is called once, whoever calls it."""

    __slots__ = ("_left",)

    def __init__(self, fn: Callable[[], Any]) -> None:
        self._left = [fn]

    def __call__(self) -> Any:
        try:
            fn = self._left.pop()  # atomic: two names may be lost at once
        except IndexError:
            return None
        return fn()


class _Suspects:
    """Whose renewals fail: of names that fail together the first one alone is worth a word."""

    __slots__ = ("_known", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[Hold] = set()

    def tell(self, hold: Hold, fn: Callable[[], Any]) -> Any:
        """Call `fn` where this failure begins a new time of trouble."""
        with self._lock:
            # One that comes again has recovered in between.
            if hold not in self._known and any(other.failures for other in self._known):
                self._known.add(hold)
                return None
            self._known = {hold}
        return fn()


async def wait_any_lost(lease: MultiLeaseFace, timeout: float | None) -> bool:
    """True as soon as one is lost; False where they were released, or `timeout` seconds passed, before."""
    now = lease._engine.runtime.clock.now
    ends = None if timeout is None else now() + timeout
    while lease.held:
        # Bounded by the deadline: whoever waits here learns of it even if the keeper never runs again.
        left = min(hold.valid_until for hold in lease._holds) - now()
        if ends is not None:
            left = min(left, ends - now())
            if left <= 0:
                return False
        await lease._ended.wait(max(left, 0.0))
    return bool(lost_names(lease))


def lost_names(lease: MultiLeaseFace) -> tuple[str, ...]:
    """The names that ended without being given back."""
    return tuple(hold.grant.claim.name for hold in lease._holds if is_lost(hold))
