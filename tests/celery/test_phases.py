"""How long a call keeps others out, with a real worker."""

from __future__ import annotations

import pytest
from celery import states

from locksmith.testing.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.native_threads]
SOON = 40.0


def test_until_executing(crew, name):
    first = crew.until_executing.apply_async([name], {"gate": name}, countdown=1)
    assert crew.until_executing.delay(name, gate=name).id == first.id
    crew.begun(name)
    second = crew.until_executing.delay(name, gate=name)
    assert second.id != first.id
    crew.begun(name, 2)  # beside the first
    crew.told.open(name)
    assert {first.get(timeout=SOON), second.get(timeout=SOON)} == {first.id, second.id}


def test_until_expired(crew, name):
    first = crew.until_expired.delay(name)
    assert first.get(timeout=SOON) == first.id
    assert crew.until_expired.delay(name).get(timeout=SOON) == first.id
    assert crew.entry("until_expired", name).state == "kept"


def test_until_expired_revoked_before_it_ran(crew, name):
    crew.until_expired.apply_async([name], countdown=2).revoke()
    crew.freed("until_expired", name)


def test_while_executing(crew, name):
    """Several are queued, one runs; the others wait without a slot: the worker has two, and one stays free."""
    calls = [crew.while_executing.delay(name, gate=name) for _ in range(3)]
    assert len({call.id for call in calls}) == 3
    crew.begun(name)
    assert crew.work.delay(f"{name}-beside").get(timeout=SOON)
    assert len(crew.told.lines("begin", name)) == 1
    crew.told.open(name)
    assert [call.get(timeout=SOON) for call in calls] == [call.id for call in calls]
    assert_one_at_a_time(crew, name, 3)
    assert crew.entry("while_executing", name, what="run") is None


def test_while_executing_dropped(crew, name):
    first = crew.while_dropping.delay(name, gate=name)
    crew.begun(name)
    second = crew.while_dropping.delay(name, gate=name)
    eventually(second.ready, within=SOON, what="the second has ended")
    assert second.state == states.REVOKED
    crew.told.open(name)
    assert first.get(timeout=SOON) == first.id


def test_until_and_while_executing(crew, name):
    """One runs and one is queued, whatever else is published."""
    first = crew.both.delay(name, gate=name)
    crew.begun(name)
    second = crew.both.delay(name, gate=name)
    assert second.id != first.id
    assert crew.both.delay(name, gate=name).id == second.id
    crew.told.open(name)
    assert first.get(timeout=SOON) == first.id
    assert second.get(timeout=SOON) == second.id
    assert_one_at_a_time(crew, name, 2)
    assert crew.entry("both", name) is None
    assert crew.entry("both", name, what="run") is None


def assert_one_at_a_time(crew, name, times):
    steps = [line.split()[0] for line in (crew.folder / "journal").read_text().splitlines() if name in line.split()]
    assert steps == ["begin", "end"] * times
