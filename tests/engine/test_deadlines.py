"""Belief ends at a local deadline (P3, P4), whatever becomes of the beats."""

from __future__ import annotations

import threading
import time

import pytest
from enginebench import Bench

from locksmith import events
from locksmith.engine.hold import DRIFT, GUARD
from locksmith.errors import LeaseLost
from locksmith.runtime import drive
from locksmith.testing import eventually
from locksmith.testing.faults import Call

TTL = 30.0
DEADLINE = TTL * (1 - DRIFT) - GUARD


def test_the_deadline_counts_from_before_the_request_was_sent(bench: Bench) -> None:
    """P3: the reply took four seconds, in which the store's count was running."""
    sent = bench.clock.now()
    bench.store.after = lambda call: bench.clock.advance(4.0)
    lease = bench.client.lock("n").acquire(wait=0)
    bench.store.after = None
    assert lease.remaining() == pytest.approx(DEADLINE - 4.0)
    bench.store.before = bench.broken("beat")
    bench.clock.advance(sent + DEADLINE - bench.clock.now() - 0.001)
    assert lease.held
    bench.clock.advance(0.001)
    assert not lease.held


def test_a_store_that_comes_back_before_the_deadline_is_asked_before_it(bench: Bench) -> None:
    """The pauses between tries grow, to 5 s here; the last one must not reach beyond the deadline."""
    lease = bench.client.lock("n").acquire()
    bench.store.before = bench.broken("beat")
    bench.clock.advance(DEADLINE - 1.0)
    assert lease.held
    bench.store.before = None
    bench.clock.advance(2.0)
    assert lease.held


def test_a_renewal_counts_from_before_it_was_sent(bench: Bench) -> None:
    """P3: a slow reply to a beat gives no more time than the store has given."""
    lease = bench.client.lock("n").acquire()
    sent: list[float] = []

    async def slow(call: Call) -> None:
        sent.append(bench.clock.now())
        await bench.store.runtime.sleep(5.0)

    bench.store.before = slow
    bench.clock.advance(TTL / 3 + 5.5)
    assert len(sent) == 1
    # The memory store reads its clock when the request reaches it, after the delay: that is when it was "sent".
    assert lease.remaining() == pytest.approx(DEADLINE - 0.5)


def test_suspect_and_recovered(bench: Bench) -> None:
    """HELD -> SUSPECT -> HELD: beats fail and then succeed before the deadline (nastiest scenario 9)."""
    lease = bench.client.lock("n").acquire()
    suspected: list[float] = []
    lease.on_suspect(lambda: suspected.append(lease.remaining()))
    bench.store.before = bench.broken("beat")
    bench.clock.advance(TTL / 3 + 3.0)
    assert lease.held
    eventually(lambda: len(suspected) == 1)
    assert bench.kinds() == ["Acquired", "Suspect"]
    bench.store.before = None
    bench.clock.advance(5.0)
    assert bench.kinds() == ["Acquired", "Suspect", "Recovered"]
    bench.clock.advance(10 * TTL)
    assert lease.held
    assert lease.release() is True


def test_suspect_and_lost_at_the_deadline(bench: Bench) -> None:
    """P4: beats fail until the deadline: lost then and not later, told once, and nothing is renewed any more."""
    lease = bench.client.lock("n").acquire()
    lost: list[float] = []
    lease.on_lost(lambda: lost.append(bench.clock.now()))
    began = bench.clock.now()
    bench.store.before = bench.broken("beat")
    bench.clock.advance(DEADLINE - 0.01)
    assert lease.held
    assert lost == []
    bench.clock.advance(0.02)
    assert not lease.held
    assert lease.lost.is_set()
    eventually(lambda: lost)
    assert lost == [pytest.approx(began + DEADLINE, abs=0.01)]
    assert bench.kinds() == ["Acquired", "Suspect", "Lost"]
    bench.store.before = None
    calls = len(bench.store.calls)
    bench.clock.advance(10 * TTL)
    assert "beat" not in bench.store.verbs()[calls:]
    assert len(lost) == 1
    with pytest.raises(LeaseLost):
        lease.release()
    with pytest.raises(LeaseLost):
        lease.check()


def test_held_is_false_at_the_deadline_while_a_beat_hangs(bench: Bench) -> None:
    """P4: no thread, loop, network or signal is needed; whoever waits for the loss is told as well."""
    lease = bench.client.lock("n").acquire()
    heard = threading.Event()
    told: list[bool] = []

    def hang(call: Call) -> None:
        if call.verb == "beat":
            heard.wait(30)

    bench.store.before = hang
    waiting = threading.Thread(target=lambda: told.append(lease.lost.wait()))
    waiting.start()
    bench.clock.wait_for_sleepers(2)
    bench.clock.advance(DEADLINE + 0.01)
    waiting.join(5)
    assert told == [True]
    assert not lease.held
    with pytest.raises(LeaseLost):
        lease.check()
    heard.set()


def test_a_renewal_that_is_answered_after_the_deadline_revives_nothing(bench: Bench) -> None:
    """P7: the beat was sent in time and acted on; its answer came too late."""
    lease = bench.client.lock("n").acquire()
    asked, late = threading.Event(), threading.Event()

    def hang(call: Call) -> None:
        if call.verb == "beat":
            asked.set()
            late.wait(30)

    bench.store.after = hang
    bench.clock.advance(TTL / 3 + 0.1)
    assert asked.wait(5)  # the beat is under way before the deadline, and the store has acted on it
    bench.clock.advance(DEADLINE - TTL / 3 + 1.0)  # past the old deadline, before the one that it would give
    assert not lease.held  # asked before the answer is there
    bench.store.after = None
    late.set()
    bench.clock.advance(1.0)
    assert not lease.held
    assert lease.lost.is_set()
    with pytest.raises(LeaseLost):
        lease.release()
    bench.clock.advance(TTL)
    assert bench.holders() == []


def test_a_renewal_that_is_answered_after_the_deadline_revives_nothing_unseen(bench: Bench) -> None:
    """P7 where nobody looked at `held` between the deadline and the answer."""
    lease = bench.client.lock("n").acquire()
    asked, late = threading.Event(), threading.Event()

    def hang(call: Call) -> None:
        if call.verb == "beat":
            asked.set()
            late.wait(30)

    bench.store.after = hang
    bench.clock.advance(TTL / 3 + 0.1)
    assert asked.wait(5)  # the beat is under way before the deadline, and the store has acted on it
    bench.clock.advance(DEADLINE - TTL / 3 + 1.0)  # past the old deadline, before the one that it would give
    bench.store.after = None
    late.set()
    eventually(lambda: "Lost" in bench.kinds())  # not by looking at the lease: that alone would end it
    assert not lease.held


def test_nothing_renews_after_a_release(bench: Bench) -> None:
    """P7, complaints 3: the watchdog does not outlive the release, also where that failed."""
    lease = bench.client.lock("n").acquire()
    assert lease.release()
    failing = bench.client.lock("n").acquire()
    bench.store.before = bench.broken("release", "abandon")
    with pytest.raises(ConnectionError):
        failing.release()
    assert not failing.held
    calls = len(bench.store.calls)
    bench.clock.advance(2 * TTL)
    assert "beat" not in bench.store.verbs()[calls:]


def test_nothing_renews_after_a_loss(bench: Bench) -> None:
    """P7: evicted, told so by a beat, and silent from then on."""
    lease = bench.client.lock("n").acquire()
    bench.client.evict("n", lease.token)
    bench.clock.advance(TTL / 3 + 0.1)
    assert not lease.held
    assert bench.kinds()[-1] == "Lost"
    calls = len(bench.store.calls)
    bench.clock.advance(3 * TTL)
    assert bench.store.verbs()[calls:] == []


def test_a_release_racing_a_renewal_is_final(bench: Bench) -> None:
    """P7, nastiest scenario 10: the beat's answer comes while the release is under way."""
    lease = bench.client.lock("n").acquire()

    def beat_now(call: Call) -> None:
        if call.verb == "release":
            bench.clock.advance(TTL / 3 + 0.1)  # a renewal falls due in the middle of the release

    bench.store.before = beat_now
    assert lease.release() is True
    bench.store.before = None
    bench.clock.advance(TTL)
    assert bench.holders() == []
    assert not lease.held


def test_a_thousand_leases_are_renewed_in_few_beats(bench: Bench) -> None:
    """Complaint 36: one batch for all, however they came."""
    leases = []
    for number in range(1000):
        leases.append(bench.client.lock(f"n{number}").acquire(wait=0))
        if number % 100 == 0:
            bench.clock.advance(0.1)
    calls = len(bench.beats())
    bench.clock.advance(TTL)
    beats = bench.beats()[calls:]
    assert all(lease.held for lease in leases)
    assert len(beats) <= 6
    assert max(grants for grants, _ in beats) == 1000
    assert all(lease.release() for lease in leases)


def test_the_wall_clock_has_no_effect(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """F11: an hour forward and an hour back, with leases held and renewed."""
    lease = bench.client.lock("n").acquire()
    now, now_ns = time.time, time.time_ns
    for jump in (3600.0, -3600.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
        monkeypatch.setattr(time, "time_ns", lambda jump=jump: now_ns() + int(jump * 1e9))
        assert lease.held
        before = lease.remaining()
        bench.clock.advance(1.0)
        assert lease.remaining() == pytest.approx(before - 1.0)
        bench.clock.advance(2 * TTL)
        assert lease.held
    assert lease.release() is True
    again = bench.client.lock("n").acquire(wait=0)
    assert again.token > lease.token


def test_max_hold_is_a_bound_that_renewals_do_not_move(bench: Bench) -> None:
    """Complaint 28."""
    lease = bench.client.lock("n").acquire(max_hold=100.0)
    bench.clock.advance(99.9)
    assert lease.held
    assert lease.remaining() <= 0.1001
    bench.clock.advance(0.2)
    assert not lease.held
    lost = bench.seen[-1]
    assert isinstance(lost, events.Lost)
    assert "max_hold" in lost.reason
    bench.clock.advance(1.0)
    assert bench.holders() == []


def test_max_hold_of_a_lease_with_lock_delay_closes_the_name(bench: Bench) -> None:
    """A holder that is stuck may still be at work: its max_hold is a loss like any other, not a clean release."""
    bench.client.lock("n", lock_delay=1000.0).acquire(max_hold=10.0)
    bench.clock.advance(2 * TTL)
    assert bench.holders() == []
    assert bench.client.lock("n").try_acquire() is None
    assert bench.client.inspect("n").closed_for > 0


def test_a_lease_over_ends_for_the_store_when_it_ends_for_its_holder(bench: Bench) -> None:
    """A deadline that passes frees the name as soon as the store can be asked."""
    bench.client.lock("n").acquire()
    bench.store.before = bench.broken("beat")
    bench.clock.advance(DEADLINE + 0.01)
    bench.store.before = None
    bench.clock.advance(1.0)
    assert bench.holders() == []


def test_the_keeper_survives_any_error_of_a_beat(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Nastiest scenario 9, complaint 4: an error that is no StoreError is a bug of the store; the next beat is sent."""
    lease = bench.client.lock("n").acquire()
    errors: list[BaseException] = [ZeroDivisionError("a bug"), RuntimeError("another"), OSError("a third")]

    def fault(call: Call) -> None:
        if call.verb == "beat" and errors:
            raise errors.pop()

    bench.store.before = fault
    bench.clock.advance(TTL)
    assert errors == []
    assert lease.held
    bench.clock.advance(10 * TTL)
    assert lease.held
    assert lease.release() is True
    assert "a bug" in caplog.text


def test_unknown_for_one_does_not_spoil_the_others(bench: Bench) -> None:
    """Rule 2, per item: one of two cannot be asked about; the other is renewed."""
    from locksmith.errors import StoreUnavailable
    from locksmith.store import Unknown

    fine, broken = bench.client.lock("fine").acquire(), bench.client.lock("broken").acquire()
    inner = bench.store.inner
    beat = inner.beat

    async def half(grants, tickets, *, within):  # type: ignore[no-untyped-def]
        words = await beat(grants, tickets, within=within)
        return [
            Unknown(StoreUnavailable("half")) if grant.claim.name == "broken" else word
            for grant, word in zip(grants, words, strict=True)
        ]

    inner.beat = half
    bench.clock.advance(DEADLINE + 0.01)
    assert fine.held
    assert not broken.held
    inner.beat = beat


def test_a_store_that_cannot_be_asked_leaves_the_lease_alone_until_its_deadline(bench: Bench) -> None:
    """Section 8 of the issue: leases live on; new acquisitions say that the store is unavailable."""
    lease = bench.client.lock("n").acquire()
    bench.store.before = bench.broken()
    with pytest.raises(ConnectionError):
        bench.client.lock("m").acquire(wait=5)
    with pytest.raises(ConnectionError):
        bench.client.lock("m").try_acquire()
    assert lease.held
    bench.store.before = None
    bench.clock.advance(0.5)
    assert lease.release() is True
    assert drive(bench.store.inner.names("")).names == []
