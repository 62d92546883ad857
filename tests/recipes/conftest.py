"""Two clients of one world on a virtual clock: one whose store can be made to fail, and a rival of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from electionbench import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench(f"memory://recipes-{uuid.uuid4().hex}") as bench:
        yield bench
