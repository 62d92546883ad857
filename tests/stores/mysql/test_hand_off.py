"""How waiters are woken, and that nothing depends on it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from locksmith import connect
from locksmith.testing.servers import MariaDBServer
from locksmith.testing.waiting import eventually
from locksmith_sql.mysql import waiters

pytestmark = pytest.mark.mariadb


class Turn(threading.Thread):
    """Somebody in line who keeps the name until told otherwise."""

    def __init__(self, url: str, namespace: str, **settings: Any) -> None:
        super().__init__(daemon=True)
        self.url, self.namespace, self.settings = url, namespace, settings
        self.has, self.may_go = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with connect(self.url, namespace=self.namespace, **self.settings) as client, client.lock("n").acquire():
            self.has.set()
            self.may_go.wait(60)

    def go(self) -> None:
        self.may_go.set()


def in_line(client: Any, count: int) -> None:
    eventually(lambda: len(client.inspect("n").waiters) == count, within=20)


def test_a_release_wakes_the_next_in_line(
    mariadb_server: MariaDBServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks by themselves within a minute, and no beat is due: only the bell can have woken them."""
    monkeypatch.setattr(waiters, "BOUND", 60_000_000)
    with connect(mariadb_server.url, namespace=namespace) as client:
        held = client.lock("n").acquire()
        turns = []
        for number in range(3):
            turns.append(Turn(f"{mariadb_server.url}?timeout=90", namespace, ttl=180.0, waiter_ttl=180.0))
            in_line(client, number + 1)
        began = time.monotonic()
        assert held.release()
        for turn in turns:
            assert turn.has.wait(30)
            turn.go()
            turn.join(30)
        assert time.monotonic() - began < 40


def test_without_bells_the_server_looks_by_itself(mariadb_server: MariaDBServer, session: Any, namespace: str) -> None:
    """Galera has no GET_LOCK; and whoever took the name without waiting has hung up none."""
    with connect(mariadb_server.url, namespace=namespace, waiter_ttl=60.0, ttl=60.0) as client:
        held = client.lock("n").acquire()
        turn = Turn(mariadb_server.url, namespace, ttl=60.0, waiter_ttl=60.0)
        in_line(client, 1)
        assert held.release()
        assert turn.has.wait(15)
        turn.go()
        turn.join(30)


def test_a_waiter_whose_connection_is_killed_goes_on(
    mariadb_server: MariaDBServer, session: Any, namespace: str
) -> None:
    with connect(mariadb_server.url, namespace=namespace) as client:
        held = client.lock("n").acquire()
        turn = Turn(mariadb_server.url, namespace, ttl=60.0, waiter_ttl=60.0)
        in_line(client, 1)
        looking = "SELECT id FROM information_schema.processlist WHERE state IN ('User sleep', 'User lock')"
        eventually(lambda: session.execute(looking) > 0, within=20)
        for (number,) in session.fetchall():
            session.execute(f"KILL CONNECTION {number}")
        assert held.release()
        assert turn.has.wait(30)
        turn.go()
        turn.join(30)


def test_what_is_left_of_a_bell(mariadb_server: MariaDBServer, session: Any, namespace: str) -> None:
    """A session keeps no lock once its owners have come and gone."""
    with connect(mariadb_server.url, namespace=namespace) as client:
        other = Turn(mariadb_server.url, namespace)
        assert other.has.wait(20)
        mine = Turn(mariadb_server.url, namespace)
        in_line(client, 1)
        owner = client.inspect("n").waiters[0].owner
        other.go()
        assert mine.has.wait(20)
        session.execute("SELECT IS_USED_LOCK(%s)", (f"locksmith:{owner}",))
        assert session.fetchone()[0] is not None
        mine.go()
        mine.join(30)
        session.execute("SELECT IS_USED_LOCK(%s)", (f"locksmith:{owner}",))
        assert session.fetchone()[0] is None
