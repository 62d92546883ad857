"""Supervisors on real stores."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisecrew import Crew


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'locks.db'}"
    return str(request.getfixturevalue("redis_server").url)


@pytest.fixture(autouse=True)
def _hang_ups_are_heard() -> Iterator[None]:
    """Under nohup they are ignored, by every command as well that inherits that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def crew(url: str, namespace: str, tmp_path: Path) -> Iterator[Crew]:
    made = Crew(url, namespace, tmp_path)
    yield made
    made.close()
