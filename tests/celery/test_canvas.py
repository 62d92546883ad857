"""Duplicates that somebody else relies on: none of them hangs, and the body runs once."""

from __future__ import annotations

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError

from locksmith.celery import DuplicateTaskError

pytestmark = [pytest.mark.redis, pytest.mark.native_threads]
SOON = 40.0


def test_a_chain_of_two_equal_links(crew, name):
    """The second is published when the first has ended: it is no duplicate."""
    result = chain(crew.work.si(name), crew.work.si(name)).delay()
    assert result.get(timeout=SOON) == f"{name} done"
    assert len(crew.told.lines("begin", name)) == 2


def test_a_chain_whose_head_is_a_duplicate(crew, name):
    first = crew.work.delay(name, gate=name)
    crew.begun(name)
    result = chain(crew.work.si(name, gate=name), crew.add.s("next")).delay()
    crew.told.open(name)
    assert result.get(timeout=SOON) == f"{name} done+next"
    assert first.get(timeout=SOON)
    assert len(crew.told.lines("begin", name)) == 1


def test_a_group_of_equal_calls(crew, name):
    result = group(crew.work.si(name, gate=name) for _ in range(3)).delay()
    crew.begun(name)
    crew.told.open(name)
    assert result.get(timeout=SOON) == [f"{name} done"] * 3
    assert len(crew.told.lines("begin", name)) == 1


def test_a_chord_with_a_duplicate_in_its_header(crew, name):
    header = [crew.work.si(name, gate=name), crew.work.si(name, gate=name), crew.add.si("other")]
    result = chord(header)(crew.collect.s())
    crew.begun(name)
    crew.told.open(name)
    assert result.get(timeout=SOON) == [f"{name} done", f"{name} done", "other"]
    assert len(crew.told.lines("begin", name)) == 1


def test_a_link_of_a_duplicate_is_called(crew, name):
    first = crew.work.delay(name, gate=name)
    crew.begun(name)
    linked = crew.work.si(f"{name}-linked")
    second = crew.work.apply_async([name], {"gate": name}, link=linked)
    assert second.id != first.id
    crew.told.open(name)
    assert second.get(timeout=SOON) == f"{name} done"
    crew.begun(f"{name}-linked")


def test_a_follower_fails_as_the_call_that_it_follows(crew, name):
    first = crew.work.delay(name, "raise", name)
    crew.begun(name)
    result = chain(crew.work.si(name, "raise", name), crew.add.s("next")).delay()
    crew.told.open(name)
    for ended in (first, result):
        with pytest.raises(ValueError, match="as told"):
            ended.get(timeout=SOON)
    assert len(crew.told.lines("begin", name)) == 1


def test_a_follower_of_a_call_that_left_no_result_runs_itself(crew, name):
    crew.work.apply_async([name], {"gate": name}, ignore_result=True)
    crew.begun(name)
    results = [chain(crew.work.si(name, gate=name), crew.add.s("next")).delay() for _ in range(3)]
    crew.told.open(name)
    for result in results:
        assert result.get(timeout=SOON) == f"{name} done+next"
    assert 2 <= len(crew.told.lines("begin", name)) <= 4


def test_skipped_in_a_chain(crew, name):
    crew.skipping.delay(name, gate=name)
    crew.begun(name)
    result = chain(crew.skipping.si(name, gate=name), crew.add.s("next")).delay()
    with pytest.raises(DuplicateTaskError):
        result.get(timeout=SOON)
    crew.told.open(name)


def test_raised_in_a_chain(crew, name):
    crew.raising.delay(name, gate=name)
    crew.begun(name)
    with pytest.raises(DuplicateTaskError):
        chain(crew.raising.si(name, gate=name), crew.add.s("next")).delay()
    crew.told.open(name)


@pytest.mark.parametrize("task", ["skipping", "while_dropping"])
def test_dropped_in_a_chord(crew, name, task):
    """Its body cannot run: it fails, and nobody waits for it for ever."""
    dropping = crew.app.tasks[task]
    first = dropping.delay(name, gate=name)
    crew.begun(name)
    result = chord([dropping.si(name, gate=name), crew.add.si("other")])(crew.collect.s())
    with pytest.raises((ChordError, DuplicateTaskError), match="has the key"):
        result.get(timeout=SOON)
    crew.told.open(name)
    assert first.get(timeout=SOON)


def test_a_chord_over_a_duplicate_whose_call_fails(crew, name):
    first = crew.work.delay(name, "raise", name)
    crew.begun(name)
    result = chord([crew.work.si(name, "raise", name), crew.add.si("other")])(crew.collect.s())
    crew.told.open(name)
    with pytest.raises((ChordError, ValueError), match="as told"):
        result.get(timeout=SOON)
    with pytest.raises(ValueError, match="as told"):
        first.get(timeout=SOON)
