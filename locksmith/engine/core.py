"""The engine of one client: acquire, wait, release, close; whatever happens, nothing is left behind."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from locksmith import events
from locksmith.engine import telling
from locksmith.engine.hold import Hold, State, believe_until
from locksmith.engine.keeper import CALL_LIMIT, Keeper
from locksmith.errors import (
    ClientClosed,
    ConfigurationError,
    InvalidTTL,
    LeaseLost,
    SelfDeadlock,
    StoreAuthError,
    StoreUnavailable,
)
from locksmith.events import Hook
from locksmith.runtime import Background, Runtime, drive
from locksmith.store import Claim, Gone, Grant, Held, Store, Ticket, Unknown

if TYPE_CHECKING:
    from locksmith.engine.heart import Heart

JOIN_SECONDS: Final = 1.0
"""How long closing waits for the keeper's last round."""
_REFUSED: Final = (ConfigurationError, StoreAuthError, ClientClosed)
"""Answers after which the store has certainly kept nothing of the claim."""

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine:
    """What the blocking and the asyncio client share: all of it is coroutines over the store's interface."""

    def __init__(self, store: Store, runtime: Runtime, hooks: list[Hook], heart: Heart | None = None) -> None:
        self.store = store
        self.runtime = runtime
        self.hooks = hooks
        self.heart = heart
        self._now = runtime.clock.now
        self._context = runtime.context
        self.closed = False
        self._fresh()
        _engines.add(self)

    def _fresh(self) -> None:
        self.keeper = Keeper(self.store, self.runtime, self.hooks, ended=self._let_go)
        self._run: Background | None = None
        self._starting = threading.RLock()
        self._starts = False
        self._held_here: dict[str, Hold] = {}
        self._shared_here: dict[str, set[Hold]] = {}
        self._asking: dict[str, Claim] = {}

    async def acquire(self, claim: Claim, wait: float | None, max_hold: float | None = None) -> Hold | None:
        """A hold of the claim, or None where `wait` seconds (None: no bound; 0: one try) ended first.

        Every way out but the first leaves nothing on the store: at once where it can be asked, else as soon as it can.
        Raises SelfDeadlock, SettingsConflict, StoreError, ClientClosed.
        """
        # Noted before the look at `closed`: whoever closes either is seen here, or sees this claim and undoes it.
        self._asking[claim.owner] = claim
        began = self._now()
        try:
            self.refuse_unusable()
            return await self._obtain(claim, wait, max_hold, began)
        except _REFUSED as error:
            telling.failed(self.hooks, claim, self._now() - began, error)
            raise
        except (StoreUnavailable, GeneratorExit) as error:
            # Not undone here: the store cannot be asked now, and who is thrown away may not await any more.
            self._owe(claim)
            telling.failed(self.hooks, claim, self._now() - began, error)
            if self.closed and isinstance(error, StoreUnavailable):  # closing undid it meanwhile
                raise ClientClosed("this client was closed: connect again") from error
            raise
        except BaseException as error:
            if (kept := self.keeper.holds.get(claim.owner)) and self.keeper.drop(kept):
                self._let_go(kept)
            await self._undo(claim, tombstone=True)
            telling.failed(self.hooks, claim, self._now() - began, error)
            raise
        finally:
            del self._asking[claim.owner]

    async def _obtain(self, claim: Claim, wait: float | None, max_hold: float | None, began: float) -> Hold | None:
        reply = await self.store.acquire(claim, queue=wait is None or wait > 0)
        if queued := isinstance(reply, Ticket):
            reply = await self._wait_in_line(reply, began, wait)
        if reply is None:
            self.refuse_unusable()  # not taken by others where closing has undone this claim
            telling.gave_up(self.hooks, claim, self._now() - began, queued=queued)
            return None
        if self._now() >= believe_until(reply.ttl, reply.since):
            raise StoreUnavailable(
                f"the store's yes to {claim.name!r} came so late that the lease may have ended by now: nothing is "
                "held; try again, or raise the ttl"
            )
        hold = self._begin(reply, max_hold)
        if self.hooks:
            telling.acquired(self.hooks, reply, self._now() - began, queued=queued)
        if self.closed and self.keeper.drop(hold):
            self._let_go(hold)
            hold.lose("the client was closed")
            await self._undo(claim, tombstone=True)
            self.refuse_unusable()
        return hold

    def refuse_unusable(self) -> None:
        """Raises ClientClosed, or ConfigurationError on an event loop that is not the client's."""
        if self.closed:
            raise ClientClosed("this client was closed: connect again")
        if self._run is not None and self._run.elsewhere():
            raise ConfigurationError("this client is in use on another running event loop: connect on this one too")

    async def release(self, hold: Hold) -> bool:
        """Give a hold back: True; False where it was released before.

        Raises LeaseLost where it was lost, StoreError where the outcome is unknown: then it is not renewed any more,
        the keeper goes on trying to give it back, and the caller may call this again.
        """
        grant = hold.grant
        try:
            if hold.farewell is not None and hold.held and not await hold.farewell():
                return False  # another thread or task is about to give it back
            if not self._take_to_release(hold):
                return False
            known = await self.store.release(grant)
        except LeaseLost:
            raise
        except BaseException as error:
            self._owe_release(hold, error)
            raise
        # "Not ours" after an unknown try, which was sent before the deadline: that one, or the keeper, has released it.
        if not known and not hold.release_unknown:
            hold.state = State.LOST
            hold.reason = "the store did not know it any more when it was released"
            self.keeper.announce(hold)
            raise hold.loss()
        hold.state = State.RELEASED
        if hold.lost_event is not None:
            hold.lost_event.set()
        if self.hooks:
            telling.released(self.hooks, hold)
        return True

    def _take_to_release(self, hold: Hold) -> bool:
        if not hold.held or hold.keeper is not self.keeper:
            return self._to_be_released_again(hold)
        if not self.keeper.drop(hold):
            return False  # another thread gives it back at this moment
        # From here on nothing renews it, whatever becomes of the request.
        hold.state = State.RELEASING
        self._let_go(hold)
        return True

    def _owe_release(self, hold: Hold, error: BaseException) -> None:
        grant = hold.grant
        # Also a Ctrl-C between two lines: what is renewed no more must be owed.
        if grant.claim.owner not in self.keeper.holds:
            hold.state = State.RELEASING
            hold.release_unknown = True
            self._owe(grant.claim)
        if isinstance(error, Exception):
            telling.release_failed(self.hooks, grant, error)

    def _to_be_released_again(self, hold: Hold) -> bool:
        """Whether an earlier try to give this back had an unknown outcome. Raises LeaseLost for what was lost."""
        if hold.keeper is not self.keeper:
            hold.state = State.INHERITED
        if hold.state in (State.RELEASED, State.RELEASING):
            return hold.state is State.RELEASING and hold.release_unknown
        if self.keeper.drop(hold):
            self.keeper.announce(hold)
            self.keeper.owe_lost(hold)
            self.ensure_keeper()
        raise hold.loss()

    async def acquire_strictly(self, claim: Claim, wait: float | None, max_hold: float | None = None) -> Hold | None:
        """As `acquire`, but raises InvalidTTL where the store had to round the ttl up."""
        hold = await self.acquire(claim, wait, max_hold)
        if hold is not None and hold.grant.confirmed and hold.grant.ttl > claim.ttl:
            await self.release(hold)
            raise InvalidTTL(f"the store keeps {claim.name!r} for {hold.grant.ttl} s, not {claim.ttl}: raise the ttl")
        return hold

    async def linger(self, hold: Hold, seconds: float) -> None:
        """End a hold for its holder now, and on the store `seconds` from now. Raises as `release` does."""
        hold.check()
        hold.state = State.RELEASING
        self.keeper.drop(hold)
        self._let_go(hold)
        await self.keeper.silence(hold)
        grant = hold.grant
        grant = grant._replace(claim=grant.claim._replace(ttl=seconds))
        word = (await self.store.beat([grant], [], within=CALL_LIMIT))[0]
        if isinstance(word, Unknown):
            hold.release_unknown = True  # release() may be called now; otherwise the ttl ends it
            raise word.error
        if not isinstance(word, Held):
            hold.state = State.HELD
            hold.lose("the store does not know it any more")
            self.keeper.announce(hold)
            raise hold.loss()
        hold.state = State.RELEASED
        telling.released(self.hooks, hold)

    async def close(self) -> None:
        """Give back what is held, leave every line, stop the keeper, close the store. Idempotent."""
        if self.closed:
            return
        self.closed = True
        try:
            await self._give_everything_back()
        except BaseException:
            # Somebody interrupts this: nothing is renewed any more, and the keeper gives back what is left.
            for hold in list(self.keeper.holds.values()):
                if self.keeper.drop(hold):
                    hold.state = State.RELEASING
                    hold.release_unknown = True
                    self._let_go(hold)
                    self._owe(hold.grant.claim)
            raise
        await self.stop_keeper()
        if self.heart is not None:
            self.heart.close()
        await self.store.close()
        self.runtime.reset()

    def after_fork(self) -> None:
        """In a forked child: nothing of the parent's is ours; the next use starts afresh."""
        for hold in list(self.keeper.holds.values()):
            hold.state = State.INHERITED
        self.runtime.reset()
        self.store.after_fork()
        if self.heart is not None:
            self.heart.after_fork()
        self._fresh()

    # Inside an acquisition.

    async def _wait_in_line(self, ticket: Ticket, began: float, wait: float | None) -> Grant | None:
        claim = ticket.claim
        while True:
            if wait is None:
                self._refuse_self_deadlock(claim)
            news = await self._stand_in_line(ticket, None if wait is None else began + wait)
            if news is None:
                await self._undo(claim, tombstone=False)
                return None
            if (grant := await self._still_believable(news)) is not None:
                return grant
            if self.hooks:
                events.emit(self.hooks, events.PassedOver(claim.name, claim.owner))
            reply = await self.store.acquire(claim, queue=True)
            if not isinstance(reply, Ticket):
                return reply
            ticket = reply

    async def _stand_in_line(self, ticket: Ticket, deadline: float | None) -> Grant | Gone | None:
        self.ensure_keeper()
        self.keeper.watch(ticket)
        if self.hooks:
            events.emit(self.hooks, events.Queued(ticket.claim.name, ticket.claim.owner))
        try:
            if self.closed:
                raise ClientClosed("the client was closed while this waited: connect again")
            while (news := ticket.inbox.peek()) is None:
                left = None if deadline is None else deadline - self._now()
                if left is not None and left <= 0:
                    return None
                await self.store.wait(ticket, left)
        finally:
            self.keeper.unwatch(ticket)
            self.store.leave(ticket)
        if isinstance(news, BaseException):
            raise news
        return news

    async def _still_believable(self, grant: Grant | Gone) -> Grant | None:
        """A handed-over grant that can be believed in; one that came late is confirmed first. None: queue again."""
        if isinstance(grant, Gone):
            return None
        if self._now() < believe_until(grant.ttl, grant.since):
            return grant
        word = (await self.store.beat([grant], [], within=grant.claim.ttl))[0]
        if isinstance(word, Unknown):
            raise word.error
        if not isinstance(word, Held):
            return None
        return grant._replace(ttl=word.ttl, since=word.since, confirmed=True)

    def _begin(self, grant: Grant, max_hold: float | None) -> Hold:
        claim = grant.claim
        keeper = self.keeper
        hold = Hold(grant, self._now, self._context(), max_hold, keeper)
        if claim.limit == 1:
            self._held_here[claim.key] = hold
        else:
            self._shared_here.setdefault(claim.key, set()).add(hold)
        keeper.keep(hold)
        if self.heart is not None:
            self.heart.keep(hold)
        if (self._run is None or not self._run.alive()) and not self.ensure_keeper():
            events.emit(self.hooks, events.Unrenewed(claim.name, claim.owner, grant.token))
        return hold

    def _refuse_self_deadlock(self, claim: Claim) -> None:
        here = self._context()
        candidates = {self._held_here.get(claim.key)} | self._shared_here.get(claim.key, set())
        mine = [hold for hold in candidates if hold is not None and hold.context == here and hold.held]
        if mine and claim.permits + sum(hold.grant.claim.permits for hold in mine) > claim.limit:
            raise SelfDeadlock(
                f"this thread or task holds {claim.name!r} and would wait for itself without bound: "
                f"locks are not re-entrant; release it first, or give wait= a number"
            )

    # Ends and undoing.

    async def _give_everything_back(self) -> None:
        for owner, claim in list(self._asking.items()):
            if ticket := self.keeper.tickets.get(owner):
                ticket.inbox.deliver(ClientClosed("the client was closed while this waited: connect again"))
            # The tombstone also refuses a request that is still under way. What is a hold by now is released below.
            if owner not in self.keeper.holds:
                await self._undo(claim, tombstone=True)
        for hold in list(self.keeper.holds.values()):
            try:
                await self.release(hold)
            except Exception as error:  # noqa: BLE001 - the others must be given back all the same
                events.logger.warning("closing: %r was not given back: %s", hold.grant.claim.name, error)

    async def _undo(self, claim: Claim, *, tombstone: bool) -> None:
        try:
            await self.runtime.finish(self.store.abandon(claim, tombstone=tombstone))
        except BaseException as error:
            events.logger.debug("undoing %r is left to the keeper: %r", claim.name, error)
            self._owe(claim)
            if not isinstance(error, Exception):
                raise

    def _owe(self, claim: Claim) -> None:
        self.keeper.owe(claim)
        self.ensure_keeper()

    def _let_go(self, hold: Hold) -> None:
        """Forget a hold that the keeper has dropped."""
        if self.heart is not None:
            self.heart.drop(hold)
        key = hold.grant.claim.key
        if self._held_here.get(key) is hold:
            del self._held_here[key]
        elif shared := self._shared_here.get(key):
            shared.discard(hold)
            if not shared:
                self._shared_here.pop(key, None)

    def ensure_keeper(self) -> bool:
        """Start the keeper unless it runs; False where nothing can be started any more."""
        if self._run is not None and self._run.alive():
            return True
        with self._starting:
            # A coroutine that is collected while we start the keeper comes here too, to owe what it asked for.
            if (self._run is None or not self._run.alive()) and not self.closed and not self._starts:
                self._starts = True
                try:
                    self._run = self.runtime.background(self.keeper.run, "locksmith-keeper")
                finally:
                    self._starts = False
            return self._run is not None

    async def stop_keeper(self) -> None:
        """No renewals from here on; what is owed is tried once more."""
        self.keeper.stop()
        if self._run is not None and await self._run.join(JOIN_SECONDS) and self.keeper.debts:
            await self.keeper.pay()


def _in_child() -> None:
    for engine in list(_engines):
        engine.after_fork()


def _at_exit() -> None:
    for engine in list(_engines):
        if not engine.runtime.is_async and not engine.closed:
            with suppress(Exception):
                drive(engine.stop_keeper())


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)
