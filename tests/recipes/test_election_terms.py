"""P10 on a virtual clock: how terms begin and end, and who is told of it when."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from electionbench import TTL, Bench

import locksmith
from locksmith.elections import Leadership
from locksmith.errors import (
    AcquireTimeout,
    CellTooLarge,
    ClientClosed,
    ConfigurationError,
    LeaseLost,
    StoreUnavailable,
)
from locksmith.recipes import places
from locksmith.store import MAX_CELL_BYTES, Guarantee
from locksmith.testing import eventually
from locksmith.testing.faults import Call


def test_a_leader_cut_off_steps_down_before_another_can_lead(bench: Bench) -> None:
    """P3, P4: by its own clock, told once, and the store has not let go of the name by then."""
    lease = bench.election.campaign()
    until = bench.clock.now() + lease.remaining()
    bench.store.before = bench.broken()
    bench.clock.advance(lease.remaining() - 0.001)
    assert bench.election.leading is not None
    assert bench.told.what == ["elected"]
    bench.clock.advance(0.002)
    eventually(lambda: bench.told.what == ["elected", "lost"])
    assert bench.told.at[-1] == pytest.approx(until, abs=0.01)
    assert bench.election.leading is None
    with pytest.raises(AcquireTimeout):
        bench.rival.campaign(wait=0)  # not yet: the store's own clock has the last word
    bench.clock.advance(TTL * 0.02)
    assert bench.rival.campaign(wait=0).token > lease.token
    bench.clock.advance(10 * TTL)
    assert bench.told.what == ["elected", "lost"]


def test_a_leader_that_slept_is_told_once(bench: Bench) -> None:
    """F2: time jumped beyond the ttl. Its first look says no, whoever looks, and on_lost comes once."""
    lease = bench.election.campaign(value="old")
    bench.store.before = bench.broken("beat")
    bench.clock.advance(3 * TTL)
    bench.heal()
    assert not lease.held
    for speak in (lambda: lease.proclaim("new"), lease.resign, bench.election.resign, lease.check):
        with pytest.raises(LeaseLost):
            speak()
    bench.clock.advance(TTL)
    assert bench.told.what == ["elected", "lost"]
    assert bench.rival.leader() is None


@pytest.mark.parametrize("end", ["resign", "release", "with", "close", "election"])
def test_whatever_gives_the_lease_back_tells_first(bench: Bench, end: str) -> None:
    """The name is still held while on_lost runs, in the eyes of the store as in those of the holder."""
    seen: list[Any] = []

    @bench.election.on_lost
    def look(lease: Leadership) -> None:
        assert lease.held
        with pytest.raises(AcquireTimeout):
            bench.rival.campaign(wait=0)
        seen.append(bench.rivals.inspect("e").holders[0].token)

    lease = bench.election.campaign()
    if end == "with":
        with lease:
            pass
    elif end == "close":
        bench.client.close()
    elif end == "election":
        assert bench.election.resign() is True
    else:
        assert getattr(lease, end)() is True
    assert seen == [lease.token]
    assert bench.told.what == ["elected", "lost"]
    assert bench.rivals.inspect("e").holders == []
    assert bench.rival.leader() is None


def test_what_on_lost_raises_does_not_keep_the_name(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, the others are told as well, and the name is given back."""
    election = bench.client.election("e")

    @election.on_lost
    def fails() -> None:
        raise RuntimeError("in on_lost")

    seen: list[str] = []
    election.on_lost(lambda: seen.append("told"))
    assert election.campaign().resign() is True
    assert seen == ["told"]
    assert "on_lost of 'e' failed" in caplog.text
    assert bench.rival.campaign(wait=0).resign() is True


def test_an_interrupted_on_lost_has_ended_and_the_name_is_given_back(bench: Bench) -> None:
    """Ctrl-C in the callback: it goes through, and nothing is renewed any more."""
    election = bench.client.election("e")

    @election.on_lost
    def interrupted() -> None:
        raise KeyboardInterrupt

    lease = election.campaign()
    with pytest.raises(KeyboardInterrupt):
        lease.resign()
    assert not lease.held
    bench.clock.advance(1.0)
    assert bench.rival.campaign(wait=0).resign() is True


def test_what_on_elected_raises_ends_the_term(bench: Bench) -> None:
    """The caller sees it, nobody leads, and since the term had begun its end is told."""

    @bench.election.on_elected
    def fails() -> None:
        raise RuntimeError("in on_elected")

    with pytest.raises(RuntimeError, match="in on_elected"):
        bench.election.campaign()
    assert bench.election.leading is None
    assert bench.told.what == ["elected", "lost"]
    assert bench.rival.campaign(wait=0).resign() is True


def test_on_elected_may_resign(bench: Bench) -> None:
    """Then the campaign has come to nothing."""
    bench.election.on_elected(lambda lease: lease.resign())
    with pytest.raises(LeaseLost):
        bench.election.campaign()
    assert bench.told.what == ["elected", "lost"]
    assert bench.rival.campaign(wait=0).resign() is True


def test_on_lost_comes_after_on_elected(bench: Bench) -> None:
    """A term that is lost while on_elected still runs: what it starts must be stopped after it was started."""
    order: list[str] = []
    election = bench.client.election("e")

    @election.on_elected
    def slow(lease: Leadership) -> None:
        order.append("begins")
        bench.rivals.evict("e", lease.token)
        bench.clock.advance(TTL)
        assert not lease.held
        order.append("begun")

    election.on_lost(lambda: order.append("lost"))
    with pytest.raises(LeaseLost):
        election.campaign()
    eventually(lambda: len(order) == 3)
    assert order == ["begins", "begun", "lost"]


def test_a_term_lost_before_it_began_is_told_to_nobody(bench: Bench) -> None:
    """Between the grant and the announcement: neither on_elected nor on_lost."""

    def evict(call: Call) -> None:
        if call.verb == "put":
            bench.rivals.evict("e", bench.rivals.inspect("e").holders[0].token)

    bench.store.before = evict
    with pytest.raises(LeaseLost):
        bench.election.campaign(value="x")
    bench.heal()
    bench.clock.advance(TTL)
    assert bench.told.of == []
    assert bench.election.leading is None


def test_a_term_whose_time_was_up_before_it_began_is_told_to_nobody(bench: Bench) -> None:
    """The process was stopped after its announcement, and looks at the clock before its keeper does."""

    def stop(call: Call) -> None:
        if call.verb == "put":
            bench.clock._now += 2 * TTL  # and nobody has woken up yet

    bench.store.after = stop
    with pytest.raises(LeaseLost):
        bench.election.campaign(value="x")
    bench.heal()
    bench.clock.advance(TTL)
    assert bench.told.of == []
    assert bench.election.leading is None


def test_closing_meanwhile_ends_a_campaign(bench: Bench) -> None:
    """Between the grant and the announcement: ClientClosed, and nobody leads."""

    def close(call: Call) -> None:
        if call.verb == "put":
            bench.heal()
            bench.client.close()

    bench.store.before = close
    with pytest.raises(ClientClosed):
        bench.election.campaign()
    assert bench.told.of == []
    assert bench.rival.campaign(wait=0).resign() is True
    for ask in (bench.election.leader, lambda: next(bench.election.observe()), bench.election.campaign):
        with pytest.raises(ClientClosed):
            ask()


def test_two_who_resign_at_once(bench: Bench) -> None:
    """One of them does, and the other one does not give the name back while on_lost runs."""
    inside, go = threading.Event(), threading.Event()
    election = bench.client.election("e")

    @election.on_lost
    def slow() -> None:
        inside.set()
        assert go.wait(10)

    lease = election.campaign()
    results: list[bool] = []
    first = threading.Thread(target=lambda: results.append(lease.resign()))
    first.start()
    assert inside.wait(10)
    assert election.resign() is False
    assert bench.rivals.inspect("e").holders
    go.set()
    first.join(10)
    assert results == [True]
    assert not bench.rivals.inspect("e").holders


def test_values(bench: Bench) -> None:
    """Checked before anything is sent; shown with their term alone."""
    for bad in (object(), float("nan"), {1: 1}):
        with pytest.raises(ConfigurationError):
            bench.election.campaign(value=bad)
    with pytest.raises(CellTooLarge):
        bench.election.campaign(value="x" * (MAX_CELL_BYTES - 20))
    assert bench.store.verbs() == []
    with pytest.raises(LeaseLost):
        bench.election.proclaim(1)
    lease = bench.election.campaign(value=1)
    with pytest.raises(ConfigurationError):
        lease.proclaim(object())
    with pytest.raises(CellTooLarge):
        lease.proclaim("x" * (MAX_CELL_BYTES - 20))
    bench.election.proclaim("x" * (MAX_CELL_BYTES - 100))
    leader = bench.rival.leader()
    assert leader is not None
    assert leader.term == lease.term == lease.token


def test_somebody_who_never_announced_is_no_leader(bench: Bench) -> None:
    """A plain lock of the same name keeps everybody from leading, and leads nothing."""
    bench.election.campaign(value="mine")
    bench.store.before = bench.broken()
    bench.clock.advance(2 * TTL)  # it dies, and leaves its announcement
    with bench.rivals.lock("e").acquire():
        assert bench.rival.leader() is None


def test_a_cell_that_no_election_wrote(bench: Bench) -> None:
    """Is an error, not a leader."""
    for raw in (b"not json", b"[]", b'{"term": "x", "value": 1}', b'{"value": 1}', b"5"):
        bench.store.inner._shared.cells.clear()  # type: ignore[attr-defined]
        _drive(bench.store.inner.put(places.of_election("e"), raw))
        with pytest.raises(ConfigurationError):
            bench.election.leader()


def _drive(work: Any) -> Any:
    from locksmith.runtime import drive

    return drive(work)


def test_a_stalled_announcement_does_not_come_in_after_a_later_one(bench: Bench) -> None:
    """P6: its outcome was unknown, and it arrives when the next one has been written: refused."""
    stalled: list[Any] = []
    inner = bench.store.inner
    put = inner.put

    async def stall(*args: Any, **settings: Any) -> int:
        if not stalled:
            stalled.append((args, settings))
            raise StoreUnavailable("no answer")
        return await put(*args, **settings)

    lease = bench.election.campaign(value=0)
    inner.put = stall  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        lease.proclaim(1)
    lease.proclaim(2)
    [(args, settings)] = stalled
    with pytest.raises(locksmith.CellConflict):
        _drive(put(*args, **settings))
    leader = bench.rival.leader()
    assert leader is not None
    assert leader.value == 2
    assert lease.resign() is True
    with pytest.raises((locksmith.CellConflict, LeaseLost)):
        _drive(put(*args, **settings))


def test_a_campaign_outlives_a_short_outage(bench: Bench) -> None:
    """Elected, but the announcement cannot be written at first: tried again while the lease lasts."""
    tries: list[str] = []

    def fault(call: Call) -> None:
        if call.verb in ("get", "put") and len(tries) < 3:
            tries.append(call.verb)
            raise StoreUnavailable("for a moment")

    bench.store.before = fault
    with bench.ticking():
        assert bench.election.campaign(value=7).held
    leader = bench.rival.leader()
    assert leader is not None
    assert (leader.value, len(tries)) == (7, 3)


@pytest.mark.parametrize("flag", [Guarantee.FIFO, Guarantee.CELLS, Guarantee.FENCED])
def test_a_store_that_lacks_something_is_refused(bench: Bench, flag: Guarantee) -> None:
    """When the election is made, with the store and the flag in the message; nothing has been sent."""
    bench.store.guarantees = bench.store.inner.guarantees & ~flag
    with pytest.raises(
        locksmith.GuaranteeMissing, match=rf"memory://.* does not promise {flag.name}, which an election"
    ):
        bench.client.election("e")
    if flag is Guarantee.CELLS:
        with pytest.raises(locksmith.GuaranteeMissing, match="CELLS, which a cell"):
            bench.client.cell("c")
    assert bench.store.calls == []


def test_how_they_look(bench: Bench) -> None:
    """For people, without secrets."""
    assert repr(bench.election).startswith("<Election 'e' at memory://")
    lease = bench.election.campaign()
    assert repr(bench.election).endswith("(leads)>")
    assert repr(lease).startswith("<Leadership 'e' token=")
    assert (bench.election.leading is lease, bench.election.name, lease.name) == (True, "e", "e")
    assert repr(bench.client.cell("c")).startswith("<Cell 'c' at memory://")
