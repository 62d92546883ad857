"""Leaders in real processes, killed and stopped: never two at once, and another one soon."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import electionnotes as notes
import pytest

import locksmith
from locksmith.recipes.election import Leader
from locksmith.testing import eventually
from locksmith.testing.processes import Worker

TTL = 1.5
MARGIN = 8.0
"""Seconds beyond a ttl: test machines are busy."""
pytestmark = pytest.mark.native_threads


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'locks.db'}"
    return str(request.getfixturevalue("redis_server").url)


class Crowd:
    """Candidates of one election, each in a process of its own, and what they have noted."""

    def __init__(self, url: str, namespace: str, runtime: str, path: Path) -> None:
        self._settings = {"namespace": namespace, "waiter_ttl": TTL}
        self._url = url
        self._runtime = runtime
        self.path = path
        self.workers: dict[int, Worker] = {}
        self.client = locksmith.connect(url, namespace=namespace)
        self.election = self.client.election("e", ttl=TTL)
        self._stack = ExitStack()
        self._stack.enter_context(self.client)

    def stand(self) -> Worker:
        worker = self._stack.enter_context(Worker(self._url, runtime=self._runtime, **self._settings))
        worker.ask("stand", name="e", ttl=TTL, path=str(self.path))
        self.workers[worker.pid] = worker
        return worker

    def leader(self, *, other_than: int | None = None, within: float = 30.0) -> Leader:
        def led() -> Leader | None:
            found = self.election.leader()
            return found if found is not None and found.term != other_than else None

        found = eventually(led, within=within)
        assert found is not None
        assert found.pid == found.value, "a value was shown in another term than its own"
        return found

    def noted(self, term: int) -> None:
        """Return when the leader of this term has written it down, which it does after it leads."""
        eventually(lambda: term in {note.token for note in notes.read(self.path)}, within=30.0)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(params=["blocking", "asyncio"])
def crowd(request: pytest.FixtureRequest, url: str, namespace: str, tmp_path: Path) -> Iterator[Crowd]:
    crowd = Crowd(url, namespace, request.param, tmp_path / "notes")
    try:
        yield crowd
    finally:
        crowd.close()


def test_killed_leaders_are_succeeded(crowd: Crowd) -> None:
    """F1, P8, P10: SIGKILL, again and again; the next in line leads when the ttl is over."""
    for _ in range(3):
        crowd.stand()
    killed = set()
    leader = crowd.leader()
    for _ in range(2):
        crowd.noted(leader.term)
        crowd.workers[leader.value].kill()
        at = time.monotonic()
        killed.add(leader.term)
        leader = crowd.leader(other_than=leader.term)
        assert time.monotonic() - at < TTL + MARGIN
    terms = notes.read(crowd.path)
    assert {term.token for term in terms} >= killed
    notes.check(terms, killed=killed)
    assert all(term.lost == 0 for term in terms if term.token in killed)


def test_a_stopped_leader_is_succeeded_and_told_once(crowd: Crowd) -> None:
    """F2, P3, P10: SIGSTOP beyond the ttl, SIGCONT; it believes no more, on_lost comes once, and it stands again."""
    for _ in range(2):
        crowd.stand()
    leader = crowd.leader()
    for _ in range(2):
        stopped = crowd.workers[leader.value]
        stopped.send_signal(signal.SIGSTOP)
        at = time.monotonic()
        successor = crowd.leader(other_than=leader.term)
        assert time.monotonic() - at < TTL + MARGIN
        time.sleep(0.1)  # both would lead now, if the old one were to believe in itself
        stopped.send_signal(signal.SIGCONT)
        term = leader.term
        eventually(lambda term=term: _lost(crowd, term) == 1, within=20)
        eventually(lambda: len(crowd.client.inspect("e").waiters) == 1, within=20)
        leader = successor
    # Nothing more comes of the terms that have ended, however long one waits.
    ended = leader.term
    crowd.workers[leader.value].kill()
    crowd.leader(other_than=ended)
    notes.check(notes.read(crowd.path), killed={ended})


def _lost(crowd: Crowd, token: int) -> int:
    return next(term.lost for term in notes.read(crowd.path) if term.token == token)
