"""A store that notices a loss between two beats is asked at once."""

from __future__ import annotations

import uuid

import locksmith
from locksmith.runtime import drive


def test_a_loss_that_the_store_notices_is_told_long_before_the_next_beat() -> None:
    with locksmith.connect(f"memory://alarm-{uuid.uuid4().hex}", ttl=3600) as client:
        store = client._engine.store
        lost, kept = client.lock("lost").acquire(), client.lock("kept").acquire()
        assert drive(store.evict("lost", lost.token)) is True
        assert store.alarm is not None
        store.alarm()
        assert lost.lost.wait(20)
        assert not lost.held
        assert kept.held


def test_an_alarm_where_nothing_is_held_is_nothing() -> None:
    with locksmith.connect(f"memory://alarm-{uuid.uuid4().hex}") as client:
        assert client._engine.store.alarm is not None
        client._engine.store.alarm()
        with client.lock("n").acquire():
            pass
