"""Claim, send, mark: what a beat sends, whatever happens to it, to the broker, to the store and to its clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery.schedules import crontab, schedule
from rotas import APP, MINUTE, NOON, Beats, Died, minutes, of_one_page

import locksmith
from locksmith.celery.beat.book import Book, page_of
from locksmith.celery.beat.entry import Entry
from locksmith.celery.beat.misfire import Misfire
from locksmith.celery.beat.moments import SECOND, when
from locksmith.celery.beat.sending import Never, NotNow
from locksmith.errors import ConfigurationError, LeaseLost
from locksmith.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def client(clock: VirtualClock) -> Iterator[locksmith.Client]:
    with locksmith.connect("memory://", clock=clock) as client:
        yield client


@pytest.fixture
def beats(client: locksmith.Client) -> Beats:
    return Beats(client)


def test_each_fire_is_sent_once_at_its_time(beats: Beats) -> None:
    rota = beats.make(minutes(15), now=NOON, guard=beats.lock.acquire())
    assert rota.step(NOON) == NOON + 15 * MINUTE
    for minute in range(61):
        rota.step(NOON + minute * MINUTE + 1)
    assert beats.post.minutes() == [15, 30, 45, 60]
    line = beats.line()
    assert (line.count, line.last, line.open) == (4, NOON + 60 * MINUTE, ())


def test_an_interval_that_was_nearly_due_fires_on_time_after_a_fail_over(beats: Beats) -> None:
    """The 29-minute gap: ran at 12:00, the leader died at 12:14, and the next run was at 12:29."""
    first = beats.lock.acquire()
    beats.make(minutes(15), now=NOON, guard=first)
    first.release()
    second = beats.make(minutes(15), now=NOON + 14 * MINUTE, guard=beats.lock.acquire(), me="b")
    assert second.step(NOON + 14 * MINUTE) == NOON + 15 * MINUTE
    second.step(NOON + 15 * MINUTE)
    assert beats.post.minutes() == [15]


@pytest.mark.parametrize(
    ("misfire", "sent"),
    [
        (Misfire("once"), [45]),
        (Misfire("skip"), []),
        (Misfire("all"), [15, 30, 45]),
        (Misfire("all", limit=2), [30, 45]),
        (Misfire("all", window=1200), [30, 45]),
        (Misfire("once", window=120), [45]),
        (Misfire("once", window=60), []),
    ],
)
def test_what_fell_into_an_outage_is_sent_as_the_policy_says(beats: Beats, misfire: Misfire, sent: list[float]) -> None:
    every = crontab(minute="*/15", app=APP)
    first = beats.lock.acquire()
    beats.make(every, now=NOON, guard=first)
    first.release()
    again = beats.make(every, now=NOON + 47 * MINUTE, guard=beats.lock.acquire(), misfire=misfire)
    assert again.step(NOON + 47 * MINUTE) == NOON + 60 * MINUTE
    assert beats.post.minutes() == sent


def test_skip_sends_what_is_on_time(beats: Beats) -> None:
    rota = beats.make(minutes(15), now=NOON, misfire=Misfire("skip"), guard=beats.lock.acquire())
    rota.step(NOON + 15 * MINUTE + SECOND)
    assert beats.post.minutes() == [15]


@pytest.mark.parametrize("after", [False, True])
def test_a_fire_that_was_claimed_by_one_who_died_is_sent_under_the_same_id(beats: Beats, after: bool) -> None:
    first = beats.lock.acquire()
    rota = beats.make(minutes(15), now=NOON, guard=first)
    (beats.post.after if after else beats.post.trouble).append(Died())
    with pytest.raises(Died):
        rota.step(NOON + 15 * MINUTE)
    assert beats.line().open == (NOON + 15 * MINUTE,)
    first.release()
    second = beats.make(minutes(15), now=NOON + 16 * MINUTE, guard=beats.lock.acquire(), me="b")
    second.step(NOON + 16 * MINUTE)
    assert beats.post.minutes() == ([15, 15] if after else [15])
    assert (beats.line().open, beats.line().count) == ((), 1)


def test_who_lost_its_lease_sends_nothing(beats: Beats, clock: VirtualClock) -> None:
    """A beat that was stopped, and wakes up with something due."""
    lease = beats.lock.acquire(max_hold=5)
    rota = beats.make(minutes(15), now=NOON, guard=lease)
    clock.advance(60)
    with pytest.raises(LeaseLost):
        rota.step(NOON + 15 * MINUTE)
    assert beats.post.sent == []
    assert beats.line().open == ()


def test_who_loses_its_lease_between_two_fires_sends_no_other(beats: Beats, clock: VirtualClock) -> None:
    """Blocked by a slow broker for longer than its ttl; RedBeat goes on sending then."""
    lease = beats.lock.acquire(max_hold=5)
    rota = beats.make(minutes(15), now=NOON, guard=lease, names=of_one_page(3))
    send = beats.post.send

    def slowly(entry: Any, moment: int) -> str:
        clock.advance(60)
        return send(entry, moment)

    beats.post.send = slowly  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        rota.step(NOON + 15 * MINUTE)
    assert len(beats.post.sent) == 1


def test_who_was_deposed_and_does_not_know_it_claims_nothing(beats: Beats, client: locksmith.Client) -> None:
    """Only the store can tell: its lease looks as good as ever."""
    lease = beats.lock.acquire()
    rota = beats.make(minutes(15), now=NOON, guard=lease)
    assert locksmith.runtime.drive(client._engine.store.evict("beat", lease.token))
    assert lease.held
    with pytest.raises(LeaseLost):
        rota.step(NOON + 15 * MINUTE)
    assert beats.post.sent == []
    assert beats.line().open == ()


def test_a_fire_that_the_broker_did_not_take_is_sent_later_under_the_same_id(beats: Beats) -> None:
    rota = beats.make(minutes(15), now=NOON, guard=beats.lock.acquire())
    beats.post.trouble += [NotNow("down"), NotNow("down")]
    due = rota.step(NOON + 15 * MINUTE)
    assert beats.post.sent == []
    while due is not None and not beats.post.sent:
        assert due < NOON + 16 * MINUTE
        due = rota.step(due)
    assert beats.post.minutes() == [15]
    assert due == NOON + 30 * MINUTE
    assert beats.line().count == 1


@pytest.mark.parametrize(("misfire", "sent"), [(Misfire("once"), [15, 90]), (Misfire("all"), [15, 30, 45, 60, 75, 90])])
def test_what_is_due_while_the_broker_is_away_is_missed(beats: Beats, misfire: Misfire, sent: list[float]) -> None:
    rota = beats.make(minutes(15), now=NOON, guard=beats.lock.acquire(), misfire=misfire)
    beats.post.trouble += [NotNow("down")] * 1000
    for minute in range(15, 91):
        rota.step(NOON + minute * MINUTE)
    assert beats.line().open == (NOON + 15 * MINUTE,)
    beats.post.trouble.clear()
    for second in range(1, 60):
        rota.step(NOON + 90 * MINUTE + second * SECOND)
    assert beats.post.minutes() == sent


def test_more_than_a_line_has_room_for_is_sent_bit_by_bit(beats: Beats) -> None:
    guard = beats.lock.acquire()
    beats.make(schedule(timedelta(seconds=1), app=APP), now=NOON, guard=guard)
    late = beats.make(
        schedule(timedelta(seconds=1), app=APP), now=NOON + 200 * SECOND, guard=guard, misfire=Misfire("all", limit=150)
    )
    due: int | None = 0
    while due is not None and due <= NOON + 200 * SECOND:
        due = late.step(NOON + 200 * SECOND)
    assert [(moment - NOON) // SECOND for _, moment in beats.post.sent] == list(range(51, 201))


def test_a_broker_that_is_down_is_asked_once_for_all_that_is_due(beats: Beats) -> None:
    rota = beats.make(minutes(15), now=NOON, guard=beats.lock.acquire(), names=tuple("abcdefgh"))
    beats.post.trouble += [NotNow("down")] * 2
    rota.step(NOON + 15 * MINUTE)
    assert len(beats.post.trouble) == 1
    assert beats.post.sent == []


def test_a_fire_that_cannot_be_sent_at_all_keeps_nothing_from_being_sent(beats: Beats) -> None:
    rota = beats.make(minutes(15), now=NOON, guard=beats.lock.acquire())
    beats.post.trouble.append(Never("no JSON"))
    rota.step(NOON + 15 * MINUTE)
    rota.step(NOON + 30 * MINUTE)
    assert beats.post.minutes() == [30]
    assert (beats.line().open, beats.line().count) == ((), 1)


def test_a_store_that_was_flushed_doubles_nothing(beats: Beats, client: locksmith.Client) -> None:
    rota = beats.make(minutes(15), now=NOON, guard=beats.lock.acquire())
    rota.step(NOON + 15 * MINUTE)
    page = Book(client, "s")._place(page_of("e"))
    assert locksmith.runtime.drive(client._engine.store.delete(page))
    rota.step(NOON + 16 * MINUTE)
    rota.step(NOON + 30 * MINUTE)
    assert beats.post.minutes() == [15, 30]


def test_a_clock_that_is_put_back_repeats_no_crontab_and_stops_no_interval(beats: Beats) -> None:
    guard = beats.lock.acquire()
    rota = beats.make(crontab(minute="*/15", app=APP), now=NOON, guard=guard)
    rota.step(NOON + 15 * MINUTE)
    back = beats.make(crontab(minute="*/15", app=APP), now=NOON - 45 * MINUTE, guard=guard)
    for minute in range(-45, 31):
        back.step(NOON + minute * MINUTE)
    assert beats.post.minutes() == [15, 30]


def test_an_interval_goes_on_after_the_clock_was_put_back(beats: Beats) -> None:
    guard = beats.lock.acquire()
    beats.make(minutes(15), now=NOON, guard=guard)
    again = beats.make(minutes(15), now=NOON - 60 * MINUTE, guard=guard)
    assert again.step(NOON - 60 * MINUTE) == NOON - 45 * MINUTE


def test_clocks_that_differ_a_little_shift_no_interval(beats: Beats) -> None:
    """A beat that is 50 ms behind finds a moment that lies ahead, which another one has just sent."""
    ahead, behind = beats.make(minutes(15), now=NOON), beats.make(minutes(15), now=NOON, me="b")
    for minute in range(15, 61, 15):
        ahead.step(NOON + minute * MINUTE)
        behind.step(NOON + minute * MINUTE - SECOND // 20)
        behind.begin()
    assert beats.post.minutes() == [15, 30, 45, 60]


def test_who_was_stopped_while_it_claimed_shifts_no_interval(beats: Beats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have fired for minutes when it goes on: that lies ahead of the time at which it was stopped."""
    stopped, other = beats.make(minutes(1), now=NOON), beats.make(minutes(1), now=NOON, me="b")
    write = Book._write

    def late(self: Book, *args: Any) -> Any:
        monkeypatch.setattr(Book, "_write", write)
        for minute in range(1, 6):
            other.step(NOON + minute * MINUTE)
        return write(self, *args)

    monkeypatch.setattr(Book, "_write", late)
    stopped.step(NOON + MINUTE + SECOND // 1000)
    for minute in range(6, 9):
        stopped.step(NOON + minute * MINUTE)
    assert beats.post.minutes() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_nothing_is_sent_after_it_was_stopped(beats: Beats) -> None:
    rota = beats.make(minutes(15), now=NOON, guard=beats.lock.acquire())
    beats.stopped = True
    rota.step(NOON + 15 * MINUTE)
    assert beats.post.sent == []


def test_who_is_stopped_between_two_fires_leaves_the_rest_to_its_successor(beats: Beats) -> None:
    names = of_one_page(3)
    first = beats.lock.acquire()
    rota = beats.make(minutes(15), now=NOON, guard=first, names=names)
    send = beats.post.send

    def once(entry: Any, moment: int) -> str:
        beats.stopped = True
        return send(entry, moment)

    beats.post.send = once  # type: ignore[method-assign]
    rota.step(NOON + 15 * MINUTE)
    assert len(beats.post.sent) == 1
    first.release()
    beats.stopped = False
    beats.post.send = send  # type: ignore[method-assign]
    beats.make(minutes(15), now=NOON + 16 * MINUTE, guard=beats.lock.acquire(), me="b", names=names).step(
        NOON + 16 * MINUTE
    )
    assert sorted(beats.post.sent) == [(name, NOON + 15 * MINUTE) for name in sorted(names)]


def test_a_paused_entry_is_not_sent_and_not_caught_up(beats: Beats) -> None:
    guard = beats.lock.acquire()
    paused = beats.make(minutes(15), now=NOON, guard=guard, paused=["e"])
    for minute in range(0, 46, 5):
        paused.step(NOON + minute * MINUTE)
    assert beats.post.sent == []
    resumed = beats.make(minutes(15), now=NOON + 46 * MINUTE, guard=guard)
    for minute in range(46, 61):
        resumed.step(NOON + minute * MINUTE)
    assert beats.post.minutes() == [60]


class Row:
    """As django-celery-beat has them."""

    enabled, one_off, total_run_count, start_time, expires = True, True, 0, None, None
    date_changed = when(NOON)


def test_an_entry_to_be_fired_once_is_not_fired_again_after_its_beat_died(beats: Beats) -> None:
    """It died between sending it and noting that in the row."""

    def die(entry: Any) -> None:
        raise Died

    first = beats.lock.acquire()
    rota = beats.make(minutes(15), now=NOON, guard=first, sent=die)
    rota._planned["e"].entry.model = Row()
    with pytest.raises(Died):
        rota.step(NOON + 15 * MINUTE)
    first.release()
    second = beats.make(minutes(15), now=NOON + 16 * MINUTE, guard=beats.lock.acquire(), me="b")
    row = second._planned["e"].entry.model = Row()
    for minute in range(16, 61):
        second.step(NOON + minute * MINUTE)
    assert set(beats.post.minutes()) == {15}
    row.date_changed = when(NOON + 61 * MINUTE)  # somebody wants it once more
    second.step(NOON + 75 * MINUTE)
    assert set(beats.post.minutes()) == {15, 75}


# Several beats at once, on the claims alone.


def test_of_several_active_beats_one_sends_each_fire(beats: Beats) -> None:
    rotas = [beats.make(minutes(15), now=NOON, me=me) for me in "abc"]
    for minute in range(61):
        for rota in rotas if minute % 2 else reversed(rotas):
            rota.step(NOON + minute * MINUTE)
    assert beats.post.minutes() == [15, 30, 45, 60]


def test_a_claim_of_an_active_beat_that_died_is_adopted_after_the_ttl_and_not_before(beats: Beats) -> None:
    one, other = (beats.make(minutes(15), now=NOON, me=me) for me in "ab")
    beats.post.trouble.append(Died())
    with pytest.raises(Died):
        one.step(NOON + 15 * MINUTE)
    assert other.step(NOON + 15 * MINUTE) == NOON + 15 * MINUTE + 10 * SECOND
    assert beats.post.sent == []
    other.step(NOON + 15 * MINUTE + 10 * SECOND)
    assert beats.post.minutes() == [15]
    assert beats.line().open == ()


@pytest.mark.parametrize("told", ["never", 3, {"policy": "all", "most": 3}, {"limit": 0}, {"window": -1}])
def test_misfire_policies_that_are_none_are_refused(told: object) -> None:
    with pytest.raises(ConfigurationError, match="misfire"):
        Entry(name="e", task="t", schedule=60, app=APP, misfire=told)
