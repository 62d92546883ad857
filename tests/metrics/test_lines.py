"""Structured log lines: their form, their levels, that repeats are counted, and that nothing is logged twice."""

from __future__ import annotations

import logging

import pytest
from metricsbench import Bench

import locksmith
from locksmith import events
from locksmith.metrics import EventLog, log_events
from locksmith.metrics.lines import shown, snake
from locksmith.testing.contract.faces import Face


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "locksmith")


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if hasattr(record, "locksmith_event")]


def test_a_life(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    async def case() -> None:
        bench = Bench(face)
        log_events(bench.client)
        lease = await bench.client.lock("user 7").acquire()
        owner = lease._hold.grant.claim.owner
        await bench.advance(2.5)
        await lease.release()
        common = f'store=memory name="user 7" owner={owner}'
        assert told(caplog) == [
            ("DEBUG", f"event=acquired {common} token={lease.token} waited=0.000000 queued=false"),
            ("DEBUG", f"event=released {common} token={lease.token} held=2.500000"),
        ]
        record = caplog.records[-1]
        assert record.name == "locksmith"
        facts = {"what": "released", "store": "memory", "name": "user 7", "token": lease.token, "held": 2.5}
        assert {key: getattr(record, f"locksmith_{key}") for key in facts} == facts

    face.run(case())


def test_losses_and_outages_are_told_once_and_not_twice(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    async def case() -> None:
        bench = Bench(face)
        log_events(bench.client)
        await bench.client.lock("n", ttl=30).acquire()
        bench.break_("beat")
        await bench.advance(40.0)
        loud = [(level, line.partition(" ")[0]) for level, line in told(caplog) if level != "DEBUG"]
        assert loud == [("WARNING", "event=suspect"), ("WARNING", "event=renewal_failed"), ("ERROR", "event=lost")]
        assert not [line for _, line in told(caplog) if not line.startswith("event=")]

    face.run(case())


def test_without_it_the_usual_lines_are_there(caplog: pytest.LogCaptureFixture) -> None:
    lost = events.Lost("n", "o", 1, "gone", 3.0)
    with locksmith.connect("memory://") as client:
        journal = log_events(client)
        events.emit(client._engine.hooks, lost)
        client.remove_hook(journal)
        events.emit(client._engine.hooks, lost)
    assert [line.split()[0] for _, line in told(caplog)] == ["event=lost", "Lost:"]


def test_called_again_it_replaces_what_was_set(caplog: pytest.LogCaptureFixture) -> None:
    with locksmith.connect("memory://") as client:
        log_events(client)
        log_events(client, long_wait=0.0)
        events.emit(client._engine.hooks, events.Acquired("n", "o", 1, 0.5, True))
    assert [level for level, _ in told(caplog)] == ["INFO"]


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (events.Queued("n", "o"), "DEBUG"),
        (events.PassedOver("n", "o"), "INFO"),
        (events.Acquired("n", "o", 1, 0.9, True), "DEBUG"),
        (events.Acquired("n", "o", 1, 1.0, True), "INFO"),
        (events.Acquired("n", "o", 1, 9.0, False), "DEBUG"),
        (events.GaveUp("n", "o", 1.0, True), "INFO"),
        (events.GaveUp("n", "o", 0.0, False), "DEBUG"),
        (events.Failed("n", "o", 0.0, "StoreUnavailable", "gone"), "WARNING"),
        (events.Failed("n", "o", 0.0, "CancelledError", ""), "DEBUG"),
        (events.Renewed("n", "o", 1, 0.1), "DEBUG"),
        (events.RenewalFailed("n", "o", 1, 0.1, 1, "StoreUnavailable", "gone"), "DEBUG"),
        (events.RenewalFailed("n", "o", 1, 0.1, 2, "StoreUnavailable", "gone"), "WARNING"),
        (events.Suspect("n", "o", 1, 5.0, "gone"), "WARNING"),
        (events.Recovered("n", "o", 1), "INFO"),
        (events.Lost("n", "o", 1, "gone", 3.0), "ERROR"),
        (events.Released("n", "o", 1, 3.0), "DEBUG"),
        (events.ReleaseFailed("n", "o", 1, "StoreUnavailable", "gone"), "WARNING"),
        (events.Unrenewed("n", "o", 1), "WARNING"),
    ],
    ids=lambda it: it if isinstance(it, str) else type(it).__name__,
)
def test_levels(event: events.Event, level: str, caplog: pytest.LogCaptureFixture) -> None:
    EventLog("memory")(event)
    ((told_level, line),) = told(caplog)
    assert told_level == level
    assert line.startswith(f"event={snake(type(event).__name__)} store=memory name=n owner=o")


def test_repeats_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    journal = EventLog("redis", repeat=60.0, clock=lambda: now[0])
    gone = [events.Failed(f"n{number}", "o", 0.0, "StoreUnavailable", "gone") for number in range(4)]
    for event in gone[:3]:
        journal(event)
    journal(events.Failed("n", "o", 0.0, "StoreAuthError", "no"))  # another kind, which has a limit of its own
    now[0] = 60.0
    journal(gone[3])
    assert [(level, line.rpartition(" ")[2]) for level, line in told(caplog)] == [
        ("WARNING", "error=gone"),
        ("DEBUG", "error=gone"),
        ("DEBUG", "error=gone"),
        ("WARNING", "error=no"),
        ("WARNING", "suppressed=2"),
    ]
    assert caplog.records[-1].locksmith_suppressed == 2  # type: ignore[attr-defined]


def test_a_loss_is_never_left_out(caplog: pytest.LogCaptureFixture) -> None:
    journal = EventLog("redis")
    for _ in range(3):
        journal(events.Lost("n", "o", 1, "gone", 3.0))
    assert [level for level, _ in told(caplog)] == ["ERROR"] * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain-1:a/b.c", "plain-1:a/b.c"),
        ("two words", '"two words"'),
        ('a"b=c', '"a\\"b=c"'),
        ("x\nevent=lost", '"x\\nevent=lost"'),
        ("\x1b[31m\x85\u2028", '"\\u001b[31m\\u0085\\u2028"'),
        ("bücher", '"bücher"'),
        ("", '""'),
        (True, "true"),
        (1.5, "1.500000"),
        (7, "7"),
    ],
)
def test_values_stay_on_one_line(value: object, text: str) -> None:
    assert shown(value) == text


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(locksmith.ConfigurationError, match="seconds"):
        EventLog("memory", long_wait=-1)
