"""The keeper: one batched word to the store about all of a client's leases and tickets, about every third of a ttl.

It is the only thread (or task) of a client. It also tells holders that they lost, ends leases at their max_hold, and
pays *debts*: claims whose acquire or release had an unknown outcome and that must be undone on the store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from locksmith import events
from locksmith.engine import telling
from locksmith.engine.hold import CONFIRM_WITHIN, Hold, State
from locksmith.errors import StoreError, StoreUnavailable
from locksmith.events import Hook
from locksmith.runtime import Runtime, drive
from locksmith.store import Claim, Gone, Grant, Held, Lost, Store, Ticket, Unknown, Waiting, Word

CALL_LIMIT: Final = 5.0
"""Seconds one beat may take at most; less where a deadline comes sooner."""
MOST_OWED: Final = 10_000
"""Debts remembered at most: in a long outage whoever tries again and again makes one with each try."""
BRISK: Final = 1.0
"""Seconds after a hand-over in which the keeper sleeps no longer than until the next one would have to be confirmed."""
LATE_EXPIRY: Final = 0.002
"""Seconds added to the moment when a holder ahead expires, so that the head of the line asks once and not twice."""


class Debt:
    """A claim to be undone on the store, until it would have ended by itself, if it does; see Keeper._stays."""

    __slots__ = ("claim", "due", "pause", "until")

    def __init__(self, claim: Claim, now: float) -> None:
        self.claim = claim
        self.due = now
        self.pause = 0.05
        self.until = now + max(claim.ttl, claim.waiter_ttl)


class Keeper:
    """Bookkeeping of what is held, waited for and owed, and the rounds that keep it true."""

    def __init__(
        self, store: Store, runtime: Runtime, hooks: list[Hook], *, ended: Callable[[Hold], object] = lambda _: None
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._hooks = hooks
        self._ended = ended
        self._now = runtime.clock.now
        self._wake = runtime.event()
        self._wakes_at = -math.inf
        self._brisk_until = -math.inf
        self._reachable = True
        self._closing = False
        self._alarmed = False
        self._asked: list[Hold] = []
        self.holds: dict[str, Hold] = {}
        self.tickets: dict[str, Ticket] = {}
        self._ticket_due: dict[str, float] = {}
        self.debts: dict[str, Debt] = {}
        store.alarm = self.alarm

    # Called by the threads and tasks of the user. Dictionary operations are atomic; the keeper iterates over copies.

    def keep(self, hold: Hold) -> None:
        """Renew this from now on."""
        self.holds[hold.grant.claim.owner] = hold
        if not hold.grant.confirmed:
            self._brisk_until = hold.acquired_at + BRISK
        due = hold.renew_due if hold.ends_at is None else min(hold.renew_due, hold.ends_at)
        self._wake_by(min(due, hold.valid_until))

    def drop(self, hold: Hold) -> bool:
        """Renew this no more; False where it was dropped before, by somebody who has told whom to tell."""
        return self.holds.pop(hold.grant.claim.owner, None) is not None

    def watch(self, ticket: Ticket) -> None:
        """Keep this place in line."""
        self.tickets[ticket.claim.owner] = ticket
        self._wake_by(self._schedule(ticket))

    def unwatch(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more."""
        if self.tickets.get(ticket.claim.owner) is ticket:
            del self.tickets[ticket.claim.owner]
            self._ticket_due.pop(ticket.claim.owner, None)

    def owe(self, claim: Claim) -> None:
        """See to it that nothing is left of this claim on the store."""
        if len(self.debts) >= MOST_OWED:
            self.debts.pop(next(iter(tuple(self.debts))), None)  # of a copy: other threads owe as well
        self.debts[claim.owner] = Debt(claim, self._now())
        self._wake_by(-math.inf)

    def owe_lost(self, hold: Hold) -> None:
        """The same for a lost lease; with a lock_delay its ttl must end by itself, or the delay would not begin."""
        if not hold.grant.claim.lock_delay:
            self.owe(hold.grant.claim)

    def alarm(self) -> None:
        """The store has noticed that something was lost: ask it about everything that is held."""
        if self.holds:
            self._alarmed = True
            self._wake_by(-math.inf)

    def stop(self) -> None:
        """End the run after the round under way."""
        self._closing = True
        self._wake.set()

    # The run.

    async def run(self) -> None:
        """Round after round until stopped. Nothing that a round raises ends it."""
        while not self._closing:
            self._wake.clear()
            # Until the wake-up time is known, whoever adds something wakes us.
            self._wakes_at = math.inf
            self._wakes_at = due = min(self._next_due(), self._nap_until())
            if due > self._now() and not self._closing:
                await self._wake.wait(None if due == math.inf else due - self._now())
                continue
            try:
                await self.round()
            except Exception:  # noqa: BLE001 - a keeper that died of one error would lose all leases of its client
                events.logger.exception(
                    "a round of the keeper failed; leases end at their deadlines unless one succeeds"
                )
                await self._runtime.sleep(0.1)

    async def round(self) -> None:
        """One look at everything: what ended, what is due, what is owed."""
        self._end_what_ended()
        await self._beat()
        self._end_what_ended()
        if self._may_pay():
            await self.pay()

    def _may_pay(self) -> bool:
        # A debt is paid by a request of its own, which may hang on a dead network for seconds; those seconds belong to
        # the holders whose deadlines come near, so nothing is paid while beats fail.
        return self._reachable or not self.holds

    def announce(self, hold: Hold) -> None:
        """Tell whoever wants to know that this lease was lost. Call after a `drop` that returned True."""
        self._ended(hold)
        if hold.lost_event is not None:
            hold.lost_event.set()
        telling.lost(self._hooks, hold)
        self.call_lost(hold)

    def call_lost(self, hold: Hold) -> None:
        """Run the on_lost callbacks of a lost lease, each once, also where two threads come here together."""
        while hold.on_lost:
            with suppress(IndexError):
                self._call_back(hold.on_lost.pop(0))

    def _call_back(self, fn: Callable[[], object]) -> None:
        # Beside the keeper: a slow callback must not keep other leases from being renewed.
        call = _calling(fn)
        if self._runtime.background(call, "locksmith-callback") is None:
            drive(call())  # no thread can be started any more: better here than not at all

    def _wake_by(self, due: float) -> None:
        if due < self._wakes_at:
            self._wakes_at = due
            self._wake.set()

    def _schedule(self, ticket: Ticket) -> float:
        due = ticket.word_at + ticket.claim.waiter_ttl / 3
        if ticket.head_expires_in is not None:
            # The head of the line asks as soon as a silent holder's time is up: that is what frees the name.
            due = min(due, ticket.word_at + ticket.head_expires_in + LATE_EXPIRY)
        self._ticket_due[ticket.claim.owner] = due
        return due

    def _nap_until(self) -> float:
        # Waking the keeper for every grant that is handed over, each of which is given back long before it would have
        # to be confirmed, costs the thread that got it more than the rest of its work: the two fight for the GIL.
        now = self._now()
        return now + CONFIRM_WITHIN if now < self._brisk_until else math.inf

    def _next_due(self) -> float:
        if self._alarmed:
            return -math.inf
        due = math.inf
        for hold in list(self.holds.values()):
            due = min(due, hold.renew_due, hold.valid_until)
            if hold.ends_at is not None:
                due = min(due, hold.ends_at)
        for owner, ticket_due in list(self._ticket_due.items()):
            if owner in self.tickets:  # else its waiter left while we wrote down when to ask next
                due = min(due, ticket_due)
        if self._may_pay():  # else a debt that is due would keep us awake without being paid
            for debt in list(self.debts.values()):
                due = min(due, debt.due)
        return due

    def _end_what_ended(self) -> None:
        now = self._now()
        for hold in list(self.holds.values()):
            if hold.ends_at is not None and now >= hold.ends_at:
                hold.lose("its max_hold ended")
                self.owe_lost(hold)
            if not hold.held and hold.state is State.LOST and self.drop(hold):
                if self._store.by_session:
                    # Our session may have outlived the silence, and with it, for as long as we renew it, this claim.
                    self.owe_lost(hold)
                self.announce(hold)

    async def _beat(self) -> None:
        now = self._now()
        alarmed, self._alarmed = self._alarmed, False
        for hold in list(self.holds.values()):
            hold.take_pulse(now)
        holds = [hold for hold in list(self.holds.values()) if alarmed or hold.renew_due <= now]
        tickets = [t for owner, t in list(self.tickets.items()) if self._ticket_due.get(owner, math.inf) <= now]
        if not holds and not tickets:
            return
        # Somebody must be asked about: take along whoever would be due before long, so that rounds fall together.
        holds = [
            h
            for h in list(self.holds.values())
            if (alarmed or h.renew_due - now <= h.grant.ttl / 6) and h.state is State.HELD
        ]
        tickets = [
            t
            for owner, t in list(self.tickets.items())
            if self._ticket_due.get(owner, math.inf) - now <= t.claim.waiter_ttl / 6
        ]
        # Noted before the last look at who is still kept: see `silence`.
        self._asked = holds
        try:
            holds = [hold for hold in holds if hold.grant.claim.owner in self.holds]
            words = await self._ask(holds, tickets, now)
        finally:
            self._asked = []
        took = self._now() - now
        for hold, word in zip(holds, words, strict=False):
            self._hear_hold(hold, word, took)
        for ticket, word in zip(tickets, words[len(holds) :], strict=False):
            self._hear_ticket(ticket, word)

    async def silence(self, hold: Hold) -> None:
        """Return when no beat about a dropped hold is under way, which would arm its whole ttl again."""
        until = self._now() + CALL_LIMIT
        while hold in self._asked and self._now() < until:
            await self._runtime.sleep(0.002)

    async def _ask(self, holds: list[Hold], tickets: list[Ticket], now: float) -> list[Word]:
        ends = [hold.valid_until for hold in list(self.holds.values())]
        # Half of what is left: a beat that vanishes in a silent network leaves time to say so, and for another one.
        within = max(0.01, min(CALL_LIMIT, (min(ends, default=math.inf) - now) / 2))
        try:
            words = await self._store.beat([hold.grant for hold in holds], tickets, within=within)
        except StoreError as error:
            words = [Unknown(_unavailable(error))] * (len(holds) + len(tickets))
        self._reachable = not any(isinstance(word, Unknown) for word in words)
        return words

    def _hear_hold(self, hold: Hold, word: Word, took: float) -> None:
        if hold.state is not State.HELD:
            return
        was_suspect = hold.failures > 0
        if isinstance(word, Held):
            if hold.renewed(word.ttl, word.since):
                telling.renewed(self._hooks, hold, took, was_suspect=was_suspect)
        elif isinstance(word, Unknown):
            hold.failed(self._now())
            telling.renewal_failed(self._hooks, hold, took, word.error)
            if not was_suspect and hold.held:
                telling.suspect(self._hooks, hold, word.error)
                for fn in tuple(hold.on_suspect):
                    self._call_back(fn)
        elif isinstance(word, Lost):
            hold.lose("the store does not know it any more")

    def _hear_ticket(self, ticket: Ticket, word: Word) -> None:
        if self.tickets.get(ticket.claim.owner) is not ticket:
            return
        now = self._now()
        if isinstance(word, Waiting):
            ticket.word_at = word.since
            ticket.head_expires_in = word.head_expires_in
            self._schedule(ticket)
        elif isinstance(word, Unknown):
            pause = min(ticket.claim.waiter_ttl / 10, 1.0)
            self._ticket_due[ticket.claim.owner] = now + pause
            if now >= ticket.word_at + ticket.claim.waiter_ttl:
                # Silent for as long as the store keeps a waiter: the place in line is gone for all we know.
                ticket.inbox.deliver(word.error)
        elif isinstance(word, Grant | Gone):
            self._ticket_due.pop(ticket.claim.owner, None)
            ticket.inbox.deliver(word)

    async def pay(self) -> None:
        """Undo what is owed and due."""
        now = self._now()
        for owner, debt in list(self.debts.items()):
            if debt.due > now:
                continue
            try:
                await self._store.abandon(debt.claim, tombstone=True)
            except Exception as error:  # noqa: BLE001 - a bug of the store must not hold up the debts behind this one
                if not isinstance(error, StoreError):
                    events.logger.exception("undoing %r failed", debt.claim.name)
                debt.pause = min(debt.pause * 2, 2.0)
                debt.due = self._now() + debt.pause
                if debt.due >= debt.until and not self._stays(error):
                    self.debts.pop(owner, None)
                if self.holds:
                    return  # it may have hung for seconds: beats and ends come before the next one
            else:
                self.debts.pop(owner, None)

    def _stays(self, error: Exception) -> bool:
        """Whether a claim may be there after its ttl: its session may live on, by other claims or by a new leader."""
        return self._store.by_session and isinstance(error, StoreError)


def _unavailable(error: StoreError) -> StoreUnavailable:
    if isinstance(error, StoreUnavailable):
        return error
    unavailable = StoreUnavailable(str(error))
    unavailable.__cause__ = error
    return unavailable


def _calling(fn: Callable[[], Any]) -> Callable[[], Coroutine[Any, Any, None]]:
    async def call() -> None:
        try:
            result = fn()
            if hasattr(result, "__await__"):
                await result
        except Exception:  # noqa: BLE001 - the user's code, which nobody waits for
            events.logger.exception("a callback of a lease failed")

    return call
