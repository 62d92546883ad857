"""Time: expiry, eras, tombstones, lock delays, and the forgetting of what is idle."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from locksmith.errors import SettingsConflict
from locksmith.runtime import drive
from locksmith.store import ABSENT, Gone, Grant, Held, Lost, Ticket, Waiting
from locksmith_sql.sqlite import clock as clocks
from locksmith_sql.sqlite import sweep
from locksmith_sql.sqlite.clock import HostClock

DAY = 86_400.0


def test_an_expired_lease_is_never_extended_for_its_old_owner(open_store: Any, clock: Any, claim: Any) -> None:
    """P7. Neither a beat nor a repeated acquire gives the old grant back; a new one has a new token."""
    store = open_store(clock=clock)
    mine = claim(ttl=2.0)
    grant = drive(store.acquire(mine, queue=False))
    clock.advance(2.0)
    assert drive(store.beat([grant], [], within=5)) == [Lost()]
    again = drive(store.acquire(mine, queue=False))
    assert again.token > grant.token
    assert drive(store.beat([grant], [], within=5)) == [Lost()]
    assert isinstance(drive(store.beat([again], [], within=5))[0], Held)


def test_an_expired_lease_is_not_extended_when_another_took_it(open_store: Any, clock: Any, claim: Any) -> None:
    store = open_store(clock=clock)
    grant = drive(store.acquire(mine := claim(ttl=2.0), queue=False))
    clock.advance(2.0)
    other = drive(store.acquire(claim(), queue=False))
    assert drive(store.beat([grant], [], within=5)) == [Lost()]
    assert drive(store.release(grant)) is False
    assert drive(store.acquire(mine, queue=False)) is None
    assert drive(store.release(other)) is True


def test_a_release_that_meets_an_enqueue_leaves_nobody_waiting(open_store: Any, claim: Any) -> None:
    """Whatever the order of the two: the waiter has the grant, at once or by the release, and no beat is needed.

    Two stores, so that the two transactions meet in SQLite and not in a mutex of ours.
    """
    first, second = open_store(), open_store()
    for round_ in range(200):
        grant = drive(first.acquire(claim(f"r{round_}"), queue=False))
        together = threading.Barrier(2)
        found: list[Any] = []

        def enqueue(name: str = f"r{round_}", together: Any = together, found: Any = found) -> None:
            together.wait()
            found.append(drive(second.acquire(claim(name), queue=True)))

        thread = threading.Thread(target=enqueue)
        thread.start()
        together.wait()
        assert drive(first.release(grant)) is True
        thread.join()
        (answer,) = found
        if isinstance(answer, Ticket):
            (holder,) = drive(first.inspect(f"r{round_}")).holders
            assert holder.owner == answer.claim.owner
        else:
            assert isinstance(answer, Grant)


def test_a_handed_over_grant_ends_after_waiter_ttl_unless_confirmed(open_store: Any, clock: Any, claim: Any) -> None:
    store = open_store(clock=clock)
    for confirm in (False, True):
        grant = drive(store.acquire(claim(), queue=False))
        ticket = drive(store.acquire(claim(ttl=60.0, waiter_ttl=2.0), queue=True))
        drive(store.release(grant))
        handed = ticket.inbox.peek()
        assert (handed.confirmed, handed.ttl, handed.since) == (False, 2.0, ticket.word_at)
        if confirm:
            assert drive(store.beat([handed], [], within=5))[0].ttl == 60.0
        clock.advance(2.0)
        (word,) = drive(store.beat([handed], [], within=5))
        assert isinstance(word, Held if confirm else Lost)


def test_a_waiter_that_was_silent_is_passed_over(open_store: Any, clock: Any, claim: Any) -> None:
    store = open_store(clock=clock)
    grant = drive(store.acquire(claim(), queue=False))
    silent = drive(store.acquire(claim(waiter_ttl=1.0), queue=True))
    alive = drive(store.acquire(claim(waiter_ttl=30.0), queue=True))
    assert silent.head_expires_in == 30.0
    assert alive.head_expires_in is None
    clock.advance(1.0)
    drive(store.release(grant))
    assert alive.inbox.peek().claim is alive.claim
    assert drive(store.beat([], [silent], within=5)) == [Gone()]


def test_the_head_learns_when_the_holder_ends(open_store: Any, clock: Any, claim: Any) -> None:
    store = open_store(clock=clock)
    drive(store.acquire(claim(limit=2), queue=False))
    clock.advance(1.0)
    drive(store.acquire(claim(limit=2, ttl=5.0, lock_delay=3.0), queue=False))
    ticket = drive(store.acquire(claim(limit=2), queue=True))
    assert ticket.head_expires_in == 5.0
    clock.advance(5.0)
    (word,) = drive(store.beat([], [ticket], within=5))
    assert isinstance(word, Waiting)
    assert word.head_expires_in == 3.0, "closed for the lock_delay of the holder that was lost"
    clock.advance(3.0)
    assert isinstance(drive(store.beat([], [ticket], within=5))[0], Grant)


def test_another_limit_is_a_conflict_only_while_the_name_lives(open_store: Any, clock: Any, claim: Any) -> None:
    store = open_store(clock=clock)
    drive(store.acquire(claim(limit=3, ttl=2.0), queue=False))
    with pytest.raises(SettingsConflict, match="limit 3"):
        drive(store.acquire(claim(limit=1), queue=False))
    clock.advance(2.0)
    assert drive(store.acquire(claim(limit=1), queue=False)) is not None


def test_a_tombstone_refuses_for_a_minute_and_then_costs_nothing(open_store: Any, clock: Any, claim: Any) -> None:
    store = open_store(clock=clock)
    stalled = claim()
    drive(store.abandon(stalled, tombstone=True))
    assert drive(store.acquire(stalled, queue=True)) is None
    assert drive(store.release(drive(store.acquire(claim(), queue=False)))) is True, "others may"
    clock.advance(59.9)
    assert drive(store.acquire(stalled, queue=True)) is None
    clock.advance(0.1)
    assert drive(store.acquire(stalled, queue=True)) is not None
    rows = store._desk._link.raw.execute("SELECT (SELECT count(*) FROM test_tomb), tombs FROM test_lease").fetchall()
    assert rows == [(0, 0)]


@pytest.mark.parametrize("limit", [1, 3])
def test_after_a_reboot_leases_live_their_ttl_once_more_and_no_longer(
    open_store: Any, clock: Any, claim: Any, limit: int
) -> None:
    """Moments of the clock before the reboot mean nothing; nothing ends too early, and nothing stays for ever."""
    store = open_store(clock=clock)
    grant = drive(store.acquire(claim(ttl=20.0, limit=limit, permits=limit), queue=False))
    waiting = drive(store.acquire(claim(limit=limit, waiter_ttl=5.0), queue=True))
    cell = drive(store.put("done", b"today", ttl=100.0))
    for era, moment in ((8, 5_000), (9, 10**15)):
        clock.era, clock.micros = era, moment
        assert drive(store.inspect("a")).holders[0].expires_in == 20.0
        assert drive(store.names("")).names == ["a"]
        assert drive(store.acquire(claim(limit=limit), queue=False)) is None
        assert isinstance(drive(store.beat([grant], [], within=5))[0], Held), "its holder is alive, after all"
        assert isinstance(drive(store.beat([], [waiting], within=5))[0], Waiting)
        assert drive(store.get("done")).version == cell
    clock.advance(20.0)
    newer = drive(store.acquire(claim(limit=limit), queue=False))
    assert newer.token > grant.token
    assert drive(store.get("done")).version == cell
    clock.advance(80.0)
    assert drive(store.get("done")) is None, "a cell's ttl goes on while the machine is off"


def test_a_lock_delay_survives_a_reboot(open_store: Any, clock: Any, claim: Any) -> None:
    store = open_store(clock=clock)
    grant = drive(store.acquire(claim(lock_delay=4.0), queue=False))
    assert drive(store.evict("a", grant.token)) is True
    clock.era, clock.micros = 8, 1
    assert drive(store.inspect("a")).closed_for == 4.0
    assert drive(store.acquire(claim(), queue=False)) is None
    clock.advance(4.0)
    assert drive(store.acquire(claim(), queue=False)) is not None


def test_setting_the_wall_clock_ends_no_lease(open_store: Any, clock: Any, claim: Any) -> None:
    """And tokens grow although it goes back."""
    store = open_store(clock=clock)
    grant = drive(store.acquire(claim(ttl=10.0), queue=False))
    for jump in (3600, -7200):
        clock.wall_micros += jump * 1_000_000
        assert drive(store.acquire(claim(), queue=False)) is None
    assert drive(store.release(grant)) is True
    assert drive(store.acquire(claim(), queue=False)).token == grant.token + 1


def test_the_host_clock_counts_from_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    host = HostClock()
    assert host.era == HostClock().era != 0
    assert abs(host.now() / 1e6 - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1
    offsets = tmp_path / "timens_offsets"
    offsets.write_text("monotonic  100  0\nboottime  5000  500000000\n")
    monkeypatch.setattr(clocks, "_OFFSETS", offsets)
    assert 5000 < (host.now() - HostClock().now()) / 1e6 < 5001, "a time namespace is shifted back"
    monkeypatch.setattr(clocks, "_BOOT_ID", tmp_path / "missing")
    assert HostClock().era == 0
    assert abs(HostClock().now() / 1e6 - time.time()) < 1


def test_idle_names_are_forgotten_after_a_day(open_store: Any, clock: Any, claim: Any) -> None:
    store = open_store(clock=clock)
    for i in range(250):
        drive(store.release(drive(store.acquire(claim(f"idle{i}"), queue=False))))
    drive(store.acquire(claim("dead", ttl=5.0), queue=False))
    drive(store.acquire(claim("dead", ttl=5.0), queue=True))
    held = drive(store.acquire(claim("held", ttl=10 * DAY), queue=False))
    drive(store.put("gone", b"x", ttl=5.0))
    drive(store.delete("gone"))
    stays = drive(store.put("stays", b"x"))
    for _ in range(3):
        clock.advance(11)
        drive(store.beat([held], [], within=5))
    raw = store._desk._link.raw
    assert raw.execute("SELECT count(*) FROM test_lease").fetchone() == (252,), "not before"
    clock.advance(DAY)
    for _ in range(6):
        clock.advance(11)
        drive(store.beat([held], [], within=5))
    assert raw.execute("SELECT key FROM test_lease").fetchall() == [("held",)]
    assert raw.execute("SELECT count(*) FROM test_line").fetchone() == (0,)
    assert raw.execute("SELECT key FROM test_cell").fetchall() == [("stays",)]
    assert drive(store.get("stays")).version == stays


def test_one_client_at_a_time_sweeps(open_store: Any, clock: Any, claim: Any) -> None:
    first, second = open_store(clock=clock), open_store(clock=clock)
    drive(first.acquire(claim(), queue=False))
    assert first._desk.run(sweep.due)
    drive(first.beat([], [], within=5))
    assert not first._desk.run(sweep.due)
    assert not second._desk.run(sweep.due)


def test_a_swept_names_token_grows_all_the_same(open_store: Any, clock: Any, claim: Any) -> None:
    store = open_store(clock=clock)
    old = drive(store.acquire(claim(), queue=False))
    drive(store.release(old))
    clock.advance(2 * DAY)
    drive(store.beat([], [], within=5))
    assert drive(store.inspect("a")).token == 0
    assert drive(store.acquire(claim(), queue=False)).token > old.token


def test_cell_versions_grow_across_deletion_and_a_clock_that_goes_back(open_store: Any, clock: Any) -> None:
    store = open_store(clock=clock)
    first = drive(store.put("k", b"1", expect=ABSENT))
    assert drive(store.delete("k", expect=first)) is True
    assert drive(store.delete("k")) is False
    clock.wall_micros -= 3_600_000_000
    assert drive(store.put("k", b"2", expect=ABSENT)) > first


def test_now_is_the_wall_clock_in_microseconds(open_store: Any) -> None:
    assert abs(drive(open_store().now()) / 1e6 - time.time()) < 1
