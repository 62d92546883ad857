"""One client on a virtual clock, over a memory store whose calls can be made to fail."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from enginebench import Bench

from locksmith import events
from locksmith.memory import MemoryStore
from locksmith.runtime import Blocking
from locksmith.testing import VirtualClock
from locksmith.testing.faults import FaultyStore, client_over


@pytest.fixture
def url() -> str:
    return f"memory://engine-{uuid.uuid4().hex}"


@pytest.fixture
def bench(url: str) -> Iterator[Bench]:
    clock = VirtualClock()
    store = FaultyStore(MemoryStore.from_url(url, runtime=Blocking(clock), namespace="t"))
    seen: list[events.Event] = []
    client = client_over(store, ttl=30.0, waiter_ttl=9.0, hooks=[seen.append])
    with client:
        yield Bench(clock, store, client, seen)
        store.before = store.after = None
