"""The supervisor's decisions, and the guardian's, without processes."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locksmith.supervise import single_beat
from locksmith.supervise.guardian import Terms
from locksmith.supervise.plan import LOST, TAKEN, Do, End, Exit, Forward, Phase, Plan, Restart

TERM = int(signal.SIGTERM)


def plan(restart: str = "never", *, once: bool = False) -> Plan:
    made = Plan(restart=Restart(restart), once=once, term=TERM, endings=frozenset({TERM}))
    made.begin()
    return made


def running(restart: str = "never", *, once: bool = False) -> Plan:
    made = plan(restart, once=once)
    assert made.elected() == [Do.START]
    made.started(0.0)
    return made


def ended(made: Plan, status: int | None = 0, *, now: float = 1.0, **facts: bool) -> Any:
    return made.ended(now, status, **{"held": True, "expired": False, "hopeless": False, **facts})


def test_its_end_is_ours() -> None:
    assert ended(running(), 3) == [Do.RELEASE, Exit(3)]


def test_lost_stands_again_or_ends() -> None:
    assert ended(running(), 143, held=False, expired=True) == [Do.RELEASE, Do.CAMPAIGN]
    assert ended(running(once=True), 143, held=False, expired=True) == [Do.RELEASE, Exit(LOST)]
    assert plan(once=True).taken() == [Do.WITHDRAW, Exit(TAKEN)]


def test_renewed_after_all_starts_again() -> None:
    renewed = running()
    assert ended(renewed, 143, expired=True) == []
    assert renewed.tick(renewed.due, held=True, room=False) == []  # nothing is started only to be ended again
    assert renewed.tick(renewed.due, held=True) == [Do.START]
    lost = running()
    assert ended(lost, 143, expired=True) == []
    assert lost.tick(lost.due, held=False) == [Do.RELEASE, Do.CAMPAIGN]


def test_restarts_wait_longer_and_longer_until_one_lived() -> None:
    made = running("always")
    pauses = []
    now = 0.0
    for _ in range(10):
        assert ended(made, now=now) == []
        assert made.phase is Phase.RESTING
        pauses.append(made.due - now)
        assert made.tick(made.due - 0.01, held=True) == []
        now = made.due
        assert made.tick(now, held=True) == [Do.START]
        made.started(now)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    ended(made, now=now + 61)
    assert made.due == now + 61.5


def test_a_lease_lost_between_restarts() -> None:
    made = running("always")
    ended(made)
    assert made.tick(1.1, held=False) == [Do.RELEASE, Do.CAMPAIGN]


def test_a_second_signal_is_passed_on() -> None:
    made = running()
    assert made.signal(TERM) == [End(TERM)]
    assert made.signal(TERM) == [Forward(TERM)]
    assert ended(made, 143) == [Do.RELEASE, Exit(143)]


def test_the_end_wins_over_orders() -> None:
    made = running()
    made.signal(TERM)
    assert made.restart() == []
    assert made.pause() == []
    assert ended(made, 1) == [Do.RELEASE, Exit(1)]


@pytest.mark.parametrize("order", ["pause", "hand_over", "restart"])
def test_orders_between_restarts(order: str) -> None:
    made = running("always")
    ended(made)
    then = {"pause": [Do.RELEASE], "hand_over": [Do.RELEASE, Do.CAMPAIGN], "restart": [Do.START]}
    assert getattr(made, order)() == then[order]


class World:
    """What is true outside of a plan, and whether what it does fits that."""

    def __init__(self, restart: Restart, *, once: bool) -> None:
        self.plan = Plan(restart=restart, once=once, term=TERM, endings=frozenset({TERM}))
        self.lined = self.ours = self.runs = self.over = False
        self.now = 0.0
        self.obey(self.plan.begin())

    def obey(self, actions: list[Any]) -> None:
        for action in actions:
            self.do(action)

    def do(self, action: Any) -> None:
        if action is Do.CAMPAIGN:
            assert (self.lined, self.ours) == (False, False)
            self.lined = True
        elif action is Do.START:
            assert (self.ours, self.runs) == (True, False)
            self.runs = True
        elif action in (Do.RELEASE, Do.WITHDRAW):
            assert not self.runs
            self.lined = self.ours = False
        elif isinstance(action, Exit):
            assert (self.runs, self.ours, self.lined) == (False, False, False)
            self.over = True
        else:
            assert self.runs, "a signal for nobody"

    # What may happen.

    def elected(self) -> None:
        if self.lined:
            self.lined, self.ours = False, True
            self.obey(self.plan.elected())

    def started(self) -> None:
        if self.runs:
            self.obey(self.plan.started(self.now))

    def ended(self, *, held: bool = True, expired: bool = False) -> None:
        if self.runs:
            self.runs = False
            self.obey(self.plan.ended(self.now, 1, held=held, expired=expired, hopeless=False))

    def expired(self) -> None:
        self.ended(expired=True)

    def lost(self) -> None:
        if self.runs:
            self.ended(held=False)
        elif self.ours:
            self.obey(self.plan.tick(self.now, held=False))

    def time(self) -> None:
        self.now += 30.0
        self.obey(self.plan.tick(self.now, held=self.ours))

    def term(self) -> None:
        self.obey(self.plan.signal(TERM))

    def hangup(self) -> None:
        self.obey(self.plan.signal(int(signal.SIGHUP)))

    def stop(self) -> None:
        self.obey(self.plan.stop())

    def pause(self) -> None:
        self.obey(self.plan.pause())

    def resume(self) -> None:
        self.obey(self.plan.resume())

    def restart(self) -> None:
        if self.ours:
            self.obey(self.plan.restart())

    def hand_over(self) -> None:
        if self.ours:
            self.obey(self.plan.hand_over())


EVENTS = (
    World.elected, World.started, World.ended, World.expired, World.lost, World.time, World.term, World.hangup,
    World.stop, World.pause, World.resume, World.restart, World.hand_over,
)  # fmt: skip


@given(st.lists(st.sampled_from(EVENTS)), st.sampled_from(list(Restart)), st.booleans())
def test_whatever_happens_the_order_is_kept(events: list[Any], restart: Restart, once: bool) -> None:
    """Started only while the name is ours, given back only when nothing runs, and never two at once."""
    world = World(restart, once=once)
    for event in events:
        if world.over:
            return
        event(world)


# ------------------------------------------------------------------------------------- the guardian's clock


def test_told_then_killed() -> None:
    terms = Terms(10, 12, grace=5)
    assert terms.due(9.9) is None
    assert (terms.due(10), terms.expired, terms.next()) == (signal.SIGTERM, True, 12)
    assert terms.due(11.9) is None
    assert terms.due(12) is signal.SIGKILL


def test_renewal_moves_both() -> None:
    terms = Terms(10, 12, grace=5)
    terms.extend(20, 22)
    terms.extend(15, 17)  # orders never take time away
    assert (terms.due(12), terms.next()) == (None, 20)


def test_the_lease_bounds_the_grace() -> None:
    terms = Terms(10, 12, grace=60)
    terms.stop(5)
    assert (terms.due(5), terms.kill_at) == (signal.SIGTERM, 12)
    terms.extend(100, 102)
    assert terms.kill_at == 65
    assert not terms.expired


def test_a_renewal_does_not_save_what_was_told() -> None:
    terms = Terms(10, 12, grace=5)
    terms.due(10)
    terms.extend(100, 102)
    assert terms.kill_at == 15


# ------------------------------------------------------------------------------------- single-beat


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"REDIS_SERVER": "redis.example"}, "redis://redis.example/"),
        ({"REDIS_SERVER": "rediss://r:1/2", "REDIS_PASSWORD": "p@"}, "rediss://:p%40@r:1/2"),
        ({"REDIS_SERVER": "unix:///run/redis.sock"}, "redis+unix:///run/redis.sock"),
        ({"REDIS_SENTINEL": "a:1;b:2"}, "redis+sentinel://a:1,b:2/mymaster/0"),
    ],
)
def test_variables_of_single_beat(environment: dict[str, str], url: str | None) -> None:
    given = {f"SINGLE_BEAT_{name}": value for name, value in environment.items()}
    assert single_beat.url(given) == url
    assert single_beat.ttl({**given, "SINGLE_BEAT_LOCK_TIME": "7"}) == 7.0
