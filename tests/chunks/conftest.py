"""What the tests of chunked jobs share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

import locksmith


@pytest.fixture
def store() -> str:
    """A memory store of this test's own."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def client(store: str) -> Iterator[locksmith.Client]:
    with locksmith.connect(store) as client:
        yield client
