"""Waiting: one batched word for all, honest belief in a hand-over, and waiters that are told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from enginebench import Bench

from locksmith.engine.hold import DRIFT, GUARD
from locksmith.errors import AcquireTimeout, StoreUnavailable
from locksmith.runtime import drive
from locksmith.store import Gone, Grant, Ticket, Waiting
from locksmith.testing import eventually
from locksmith.testing.faults import Call, client_over

WAITER_TTL = 9.0  # see conftest


class Beside:
    """A call on a thread of its own."""

    def __init__(self, fn: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._fn = fn
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.value = self._fn()
        except BaseException as error:
            self.error = error

    @property
    def done(self) -> bool:
        return not self.thread.is_alive()

    def result(self) -> Any:
        self.thread.join(5)
        assert self.done
        if self.error is not None:
            raise self.error
        return self.value


def waiter(bench: Bench, number: int = 1, **settings: Any) -> Beside:
    """Somebody in line, seen to be there."""
    beside = Beside(lambda: bench.client.lock("n").acquire(**settings))
    eventually(lambda: bench.waiters() == number)
    eventually(lambda: bench.clock.sleeps(beside.thread))
    return beside


@pytest.fixture
def rival(bench: Bench) -> Any:
    """Another client of the same store, whose calls never fail."""
    client = client_over(bench.store.inner, ttl=30.0, waiter_ttl=WAITER_TTL)
    with client:
        yield client


def test_one_batched_beat_carries_all_waiters(bench: Bench, rival: Any) -> None:
    """Section 8: never one request per waiter; one batch per client every waiter_ttl/3."""
    held = rival.lock("n").acquire()
    waiters = [waiter(bench, number) for number in range(1, 9)]
    calls = len(bench.beats())
    bench.clock.advance(60.0)
    beats = bench.beats()[calls:]
    # One every third of waiter_ttl, and at most one more per third for the head of the line, which looks for expiry.
    assert len(beats) <= 2 * 60 / (WAITER_TTL / 3) + 2
    assert max(tickets for _, tickets in beats) == 8
    assert bench.waiters() == 8
    assert held.release()
    for beside in waiters:
        assert beside.result().release()
    assert bench.waiters() == 0


def test_no_requests_at_all_between_the_beats(bench: Bench, rival: Any) -> None:
    """Waiting costs nothing but the beats."""
    rival.lock("n").acquire()
    beside = waiter(bench, wait=100)
    calls = len(bench.store.calls)
    bench.clock.advance(WAITER_TTL / 3 - 0.1)
    assert bench.store.verbs()[calls:] == []
    bench.clock.advance(100)
    with pytest.raises(AcquireTimeout):
        beside.result()
    assert bench.waiters() == 0


def test_a_lost_push_costs_a_third_of_waiter_ttl(bench: Bench, rival: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 8, nastiest 21: the notification never comes; the next beat finds the grant."""
    held = rival.lock("n").acquire()
    beside = waiter(bench)
    ticket = next(iter(bench.client._engine.keeper.tickets.values()))
    monkeypatch.setattr(type(ticket.inbox), "deliver", lambda inbox, news: None)
    assert held.release()
    monkeypatch.undo()
    assert bench.holders() != []  # granted, and the waiter has not heard of it
    assert not beside.done
    bench.clock.advance(WAITER_TTL / 3 + 0.1)
    assert beside.result().held


def push(bench: Bench, rival: Any, later: float, *, broken: bool = False) -> tuple[Beside, Any]:
    """A waiter whose push is held back for `later` seconds; meanwhile its beats may fail."""
    held = rival.lock("n").acquire()
    beside = waiter(bench)
    ticket = next(iter(bench.client._engine.keeper.tickets.values()))
    pushed: list[Any] = []
    deliver = ticket.inbox.deliver
    type(ticket.inbox).deliver, original = lambda inbox, news: pushed.append(news), type(ticket.inbox).deliver  # type: ignore[method-assign]
    try:
        if broken:
            bench.store.before = bench.broken("beat")
        assert held.release()
        bench.clock.advance(later)
    finally:
        type(ticket.inbox).deliver = original  # type: ignore[method-assign]
    bench.store.before = None
    grants = [news for news in pushed if isinstance(news, Grant)]
    deliver(grants[0])
    return beside, grants[0]


def test_a_push_in_time_is_believed_and_confirmed_by_a_beat(bench: Bench, rival: Any) -> None:
    """Section 8, direct hand-off: belief until the last answered word + waiter_ttl, then a beat makes it ttl."""
    held = rival.lock("n").acquire()
    beside = waiter(bench)
    joined = bench.clock.now()
    bench.clock.advance(1.0)
    assert held.release()
    lease = beside.result()
    assert lease.held
    until = bench.clock.now() + lease.remaining()
    if lease.ttl == pytest.approx(WAITER_TTL):  # not confirmed yet
        assert until == pytest.approx(joined + WAITER_TTL * (1 - DRIFT) - GUARD, abs=0.01)
    bench.clock.advance(0.2)
    assert lease.ttl == 30.0
    assert lease.remaining() > 29.0
    assert lease.release()


def test_an_unanswered_word_does_not_prolong_belief(bench: Bench, rival: Any) -> None:
    """Section 8: beats that were sent and not answered count for nothing in a handed-over grant."""
    bench_acquired = bench.clock.now()
    held = rival.lock("n").acquire()
    beside = waiter(bench)
    acted = bench.broken("beat")
    bench.store.after = acted  # they reach the store, which keeps the place in line; the answers are lost
    bench.clock.advance(WAITER_TTL * 0.8)
    bench.store.after = None
    bench.store.before = bench.broken("beat")  # and the confirmation does not get through either
    assert held.release()
    lease = beside.result()
    assert bench.clock.now() + lease.remaining() <= bench_acquired + WAITER_TTL
    assert lease.held
    bench.clock.advance(WAITER_TTL * 0.25)
    assert not lease.held
    bench.store.before = None


def test_a_late_push_is_confirmed_before_it_is_believed(bench: Bench, rival: Any) -> None:
    """Section 8: the push arrives after belief would have ended; the store still says yes."""
    asked: list[str] = []
    beside, grant = push_late(bench, rival, asked)
    lease = beside.result()
    assert lease.token == grant.token
    assert lease.held
    assert asked[:1] == ["beat"]
    assert lease.ttl == 30.0
    assert lease.release()


def push_late(bench: Bench, rival: Any, asked: list[str]) -> tuple[Beside, Any]:
    """Deliver a grant whose `since` is so old that it cannot be believed, although the store still knows it."""
    held = rival.lock("n").acquire()
    beside = waiter(bench)
    ticket = next(iter(bench.client._engine.keeper.tickets.values()))
    pushed: list[Any] = []
    inbox = type(ticket.inbox)
    original = inbox.deliver
    inbox.deliver = lambda self, news: pushed.append(news)  # type: ignore[method-assign]
    assert held.release()
    inbox.deliver = original  # type: ignore[method-assign]
    old = pushed[0]._replace(since=pushed[0].since - WAITER_TTL)
    calls = len(bench.store.calls)
    ticket.inbox.deliver(old)
    eventually(lambda: beside.done)
    asked.extend(bench.store.verbs()[calls:])
    return beside, old


def test_a_push_that_comes_too_late_means_waiting_again(bench: Bench, rival: Any) -> None:
    """Section 8: the unconfirmed grant has ended on the store; the waiter queues again and says so."""
    beside, grant = push(bench, rival, WAITER_TTL + 1.0, broken=True)
    lease = beside.result()
    assert lease.token > grant.token
    assert "PassedOver" in bench.kinds()
    assert lease.release()


def test_gone_means_queueing_again_at_the_tail(bench: Bench, rival: Any) -> None:
    """Section 8: who was passed over is told, queues again with a new ticket, and emits an event."""
    held = rival.lock("n").acquire()
    beside = waiter(bench)
    ticket = next(iter(bench.client._engine.keeper.tickets.values()))
    bench.store.before = bench.broken("beat")
    behind = Beside(lambda: rival.lock("n").acquire(wait=1000))
    eventually(lambda: bench.waiters() == 2)
    bench.store.before = bench.broken("beat")
    bench.clock.advance(WAITER_TTL - 0.5)
    bench.store.before = None
    drive(bench.store.inner.abandon(ticket.claim, tombstone=False))  # as the store does with the silent
    bench.clock.advance(WAITER_TTL / 3 + 1.0)
    assert "PassedOver" in bench.kinds()
    assert not beside.done
    assert bench.waiters() == 2
    assert held.release()
    first = behind.result()
    assert not beside.done
    assert first.release()
    assert beside.result().release()


def test_a_short_outage_costs_a_waiter_nothing(bench: Bench, rival: Any) -> None:
    """Section 8: shorter than waiter_ttl, and the place in line is kept."""
    held = rival.lock("n").acquire()
    beside = waiter(bench)
    bench.store.before = bench.broken()
    bench.clock.advance(WAITER_TTL * 0.8)
    bench.store.before = None
    bench.clock.advance(WAITER_TTL)
    assert not beside.done
    assert "PassedOver" not in bench.kinds()
    assert held.release()
    assert beside.result().release()


def test_a_long_outage_is_told_to_the_waiter(bench: Bench, rival: Any) -> None:
    """P9: longer than waiter_ttl, the place in line is gone for all we know: StoreUnavailable, and nothing stays."""
    held = rival.lock("n").acquire()
    beside = waiter(bench)
    bench.store.before = bench.broken()
    bench.clock.advance(WAITER_TTL * 0.9)
    assert not beside.done
    bench.clock.advance(WAITER_TTL * 0.5)
    with pytest.raises(StoreUnavailable):
        beside.result()
    bench.store.before = None
    bench.clock.advance(3.0)
    assert bench.waiters() == 0
    assert held.release()
    assert bench.holders() == []


def test_debts_are_paid_when_the_store_is_back(bench: Bench) -> None:
    """Rule 3: what could not be undone is undone later, long before its ttl."""
    bench.store.after = bench.broken("acquire")  # granted, and the reply is lost
    bench.store.before = bench.broken("abandon")
    with pytest.raises(StoreUnavailable):
        bench.client.lock("n").acquire()
    bench.store.before, bench.store.after = bench.broken(), None
    assert len(bench.holders()) == 1
    bench.clock.advance(5.0)
    assert len(bench.holders()) == 1
    bench.store.before = None
    bench.clock.advance(2.5)
    assert bench.holders() == []
    calls = len(bench.store.calls)
    bench.clock.advance(100.0)
    assert bench.store.verbs()[calls:] == []


def test_a_debt_that_cannot_be_paid_ends(bench: Bench) -> None:
    """Rule 3: after its ttl there is nothing left to undo, and nobody asks for ever."""
    bench.store.before, bench.store.after = bench.broken("abandon"), bench.broken("acquire")
    with pytest.raises(StoreUnavailable):
        bench.client.lock("n", ttl=20).acquire()
    bench.store.before, bench.store.after = bench.broken(), None
    bench.clock.advance(25.0)
    calls = len(bench.store.calls)
    bench.clock.advance(100.0)
    assert bench.store.verbs()[calls:] == []


def test_a_debt_on_a_store_of_sessions_is_owed_until_it_is_paid(bench: Bench) -> None:
    """Rule 3: its claim does not end with its ttl where other leases keep the session alive; it stayed for ever."""
    bench.store.by_session = True
    held = bench.client.lock("held", ttl=20).acquire()
    bench.store.before, bench.store.after = bench.broken("abandon"), bench.broken("acquire")
    with pytest.raises(StoreUnavailable):
        bench.client.lock("n", ttl=20).acquire()
    bench.store.after = None
    bench.clock.advance(60.0)
    assert held.held
    calls = len(bench.store.calls)
    bench.store.before = None
    bench.clock.advance(3.0)
    assert "abandon" in bench.store.verbs()[calls:]
    calls = len(bench.store.calls)
    bench.clock.advance(100.0)
    assert "abandon" not in bench.store.verbs()[calls:]


def test_debts_are_not_remembered_without_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that tries again and again while a store of sessions is away makes a debt with each try."""
    monkeypatch.setattr("locksmith.engine.keeper.MOST_OWED", 10)
    bench.store.before = bench.broken()
    for number in range(30):
        with pytest.raises(StoreUnavailable):
            bench.client.lock(f"n{number}").acquire()
    owed = [debt.claim.name for debt in bench.client._engine.keeper.debts.values()]
    assert owed == [f"n{number}" for number in range(20, 30)]


def test_a_debt_with_a_bug_in_it_does_not_hold_up_the_others(bench: Bench) -> None:
    """Rule 3: abandon raises what no store may raise, for one claim, for ever; the next debt is paid all the same."""
    bench.store.after = bench.broken("acquire")
    for name in ("bad", "n"):
        with pytest.raises(StoreUnavailable):
            bench.client.lock(name, ttl=20).acquire()
    bench.store.after = None

    def bug(call: Call) -> None:
        if call.verb == "abandon" and call.arguments[0].name == "bad":
            raise ZeroDivisionError("a bug in a store")

    bench.store.before = bug
    bench.clock.advance(3.0)
    assert bench.holders() == []
    bench.clock.advance(30.0)
    calls = len(bench.store.calls)
    bench.clock.advance(100.0)
    assert bench.store.verbs()[calls:] == []


def test_debts_wait_while_holders_need_the_connection(bench: Bench) -> None:
    """A debt may hang on a dead network for seconds, which belong to the holders: nothing is paid while beats fail."""
    lease = bench.client.lock("held").acquire()
    bench.store.before = bench.broken()
    with pytest.raises(StoreUnavailable):
        bench.client.lock("n").acquire()
    bench.clock.advance(11.0)
    calls = len(bench.store.calls)
    bench.clock.advance(5.0)
    assert set(bench.store.verbs()[calls:]) == {"beat"}
    bench.store.before = None
    bench.clock.advance(6.0)
    assert lease.held
    assert "abandon" in bench.store.verbs()[calls:]


def test_the_head_of_the_line_asks_when_the_holders_time_is_up(bench: Bench) -> None:
    """P8: a holder that died is succeeded about when its ttl ends, although the next regular beat is far away."""
    dead = bench.store.inner
    claim = bench.client.lock("n", ttl=10.0)._permits.claim()
    assert isinstance(drive(dead.acquire(claim, queue=False)), Grant)
    died = bench.clock.now()
    beside = waiter(bench)
    bench.clock.advance(9.9)
    assert not beside.done
    bench.clock.advance(0.2)
    lease = beside.result()
    assert bench.clock.now() - died < 10.2
    assert lease.release()


def test_words_for_tickets_nobody_waits_for_are_dropped(bench: Bench, rival: Any) -> None:
    """The wait ended while its beat was under way: the answer finds nobody and starts nothing."""
    held = rival.lock("n").acquire()
    beside = waiter(bench, wait=WAITER_TTL / 3 + 0.5)

    async def slow(call: Call) -> None:
        if call.verb == "beat":
            await bench.store.runtime.sleep(2.0)

    bench.store.after = slow
    bench.clock.advance(WAITER_TTL)
    with pytest.raises(AcquireTimeout):
        beside.result()
    bench.store.after = None
    assert held.release()
    assert bench.holders() == []
    assert bench.client._engine.keeper.tickets == {}


def test_the_words_are_what_they_are() -> None:
    """The suite relies on this: a Ticket is no Waiting, a Gone no Grant."""
    assert not issubclass(Ticket, Waiting)
    assert not isinstance(Gone(), Grant)
