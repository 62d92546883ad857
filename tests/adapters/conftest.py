"""What the tests of the adapters share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

import locksmith
from locksmith.testing.clock import VirtualClock


@pytest.fixture
def store() -> str:
    """A memory store of this test's own."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def client(clock: VirtualClock) -> Iterator[locksmith.Client]:
    """A client whose time only the test moves."""
    with locksmith.connect("memory://", clock=clock) as client:
        yield client
