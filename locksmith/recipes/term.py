"""One term of an election: it is announced, it begins, it ends, and whoever wants to know is told exactly once of each.

on_lost has returned before the lease is given back, so that nobody else leads while it runs. Where the lease is lost
instead, on_lost is called at its deadline at the latest, which comes before the store can let anybody else have it.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from locksmith.engine.core import Engine
from locksmith.engine.hold import Hold
from locksmith.engine.lease import LeaseFace, bind, give_up
from locksmith.errors import CellConflict, LeaseLost, StoreUnavailable
from locksmith.events import logger
from locksmith.recipes import plain
from locksmith.store import ABSENT

PATIENCE: Final = 5.0
"""Seconds a campaign that was won goes on trying to announce that to a store that does not answer."""
_TRIES: Final = 10
"""How often an announcement is written anew because another one of the same term came in between."""
_LONGEST: Final = 2**64
"""A term with as many digits as there can be."""


class Announcement:
    """A value to be announced, checked before anything is sent. Raises ConfigurationError, CellTooLarge."""

    def __init__(self, value: object) -> None:
        self._value = plain.dump(value)
        plain.check_size(self.of(_LONGEST))

    def of(self, term: int) -> bytes:
        """What the cell holds in a term."""
        return b'{"term":%d,"value":%b}' % (term, self._value)


class _Phase(enum.Enum):
    """NEW: nobody has been told of it. LEADING: on_elected was called, or soon is. ENDED: the same of on_lost."""

    NEW = "new"
    LEADING = "leading"
    ENDED = "ended"


class Term:
    """A grant of the election's name, from the first moment to after its end."""

    def __init__(
        self,
        engine: Engine,
        hold: Hold,
        place: str,
        elected: Sequence[Callable[..., Any]],
        lost: Sequence[Callable[..., Any]],
    ) -> None:
        self.engine = engine
        self.hold = hold
        self._place = place
        self._elected = elected
        self._lost = lost
        self._phase = _Phase.NEW
        self._moving = threading.Lock()
        self._told = False
        self._said_farewell = False
        self._settled = engine.runtime.event()
        self._candidate = engine.runtime.context()
        self._expect: int | None = None

    def bind(self, lease: LeaseFace) -> None:
        """Have this term's end told, whatever ends it. `lease` is what callbacks are given."""
        self._lease = lease
        self.hold.farewell = self._farewell
        lease.on_lost(self._on_loss)

    # What the term says.

    async def announce(self, word: Announcement) -> None:
        """Proclaim, and try again while the store cannot be asked: the lease is renewed meanwhile."""
        now, pause = self.hold.now, 0.05
        gives_up = now() + PATIENCE
        while True:
            try:
                return await self.proclaim(word)
            except StoreUnavailable:
                if not self.hold.held or now() + pause >= gives_up:
                    raise
            await self.engine.runtime.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def proclaim(self, word: Announcement) -> None:
        """Write what everybody is to see, for as long as this term lasts.

        Raises LeaseLost where the term is over, StoreError where the outcome is unknown: repeating is safe.
        """
        self.hold.check()
        raw = word.of(self.hold.grant.token)
        for _ in range(_TRIES):
            if self._expect is None:
                cell = await self.engine.store.get(self._place)
                self._expect = 0 if cell is None else cell.version
            # Expected, not just guarded: else an earlier announcement of this term, stalled on its way, could still
            # come in after a later one.
            expect, self._expect = self._expect, None
            try:
                self._expect = await self.engine.store.put(
                    self._place, raw, expect=expect or ABSENT, guard=self.hold.grant
                )
            except CellConflict:
                continue
            return
        raise CellConflict(f"others of this term have announced something {_TRIES} times in between: try again")

    # How it begins and ends.

    async def begin(self) -> None:
        """Call on_elected. Raises what that raises; LeaseLost where the term ended before or meanwhile."""
        with self._moving:
            begins = self._phase is _Phase.NEW
            if begins:
                self._phase = _Phase.LEADING
        try:
            if begins and self.hold.held:
                self._told = True
                for fn in tuple(self._elected):
                    await self._call(fn)
        finally:
            self._settled.set()
        self.hold.check()

    def drop(self) -> None:
        """End a term where nothing can be awaited any more: whoever was told of its beginning is told of its end.

        Then it ends as if it were lost, and the name stays taken for its ttl, which is the time that on_lost has.
        """
        if not self._told:
            give_up(self.engine, self.hold)
        elif self.engine.keeper.drop(self.hold):
            self.hold.lose("what led was thrown away")
            self.engine.keeper.announce(self.hold)

    async def _farewell(self) -> bool:
        was = None
        try:
            if (was := self._end()) is _Phase.ENDED:
                return self._said_farewell
            if was is _Phase.LEADING:
                await self._tell_lost()
            await self._withdraw()
            self._said_farewell = True
        except BaseException:
            # Interrupted: whatever on_lost was doing has ended, so the engine may go on to give this back.
            if was is not _Phase.ENDED and self.engine.keeper.drop(self.hold):
                self.engine._let_go(self.hold)
            raise
        return True

    async def _on_loss(self) -> None:
        if self._end() is _Phase.LEADING:
            await self._tell_lost()

    def _end(self) -> _Phase:
        with self._moving:
            was, self._phase = self._phase, _Phase.ENDED
        return was

    async def _tell_lost(self) -> None:
        # on_lost undoes what on_elected did, so it comes after it; unless on_elected itself has resigned.
        if self.engine.runtime.context() != self._candidate:
            await self._settled.wait(self.hold.grant.ttl)
        if not self._told:
            return
        for fn in tuple(self._lost):
            try:
                await self._call(fn)
            except Exception:  # noqa: BLE001 - the others must be told, and the name given back, all the same
                logger.exception("on_lost of %r failed", self.hold.grant.claim.name)

    async def _call(self, fn: Callable[..., Any]) -> None:
        result = bind(fn, self._lease)()
        if isinstance(result, Awaitable):
            await result

    async def _withdraw(self) -> None:
        # So that observers are told now, and not when the next term is announced.
        try:
            await self.engine.store.delete(self._place, guard=self.hold.grant)
        except LeaseLost:
            pass  # giving it back says so
        except Exception as error:  # noqa: BLE001 - an announcement counts for nobody once its term is over
            logger.debug("withdrawing the announcement of %r: %s", self.hold.grant.claim.name, error)
