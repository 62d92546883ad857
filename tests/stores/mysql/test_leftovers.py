"""What is left after a loss, and how long a beat may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from locksmith.errors import StoreProtocolError, StoreUnavailable
from locksmith.store import Claim, Grant, Held, Lost, Ticket
from locksmith_sql.mysql import MySQLStore

pytestmark = pytest.mark.mariadb

Make = Callable[..., Claim]


def handed_over(face: Any, store: MySQLStore, claim: Make) -> Grant:
    """A grant that was waited for: it has news and a bell on the server."""
    first = face.run(store.acquire(claim(), queue=False))
    ticket = face.run(store.acquire(claim(), queue=True))
    assert isinstance(first, Grant)
    assert isinstance(ticket, Ticket)
    assert face.run(store.release(first))
    until = time.monotonic() + 20.0
    while ticket.inbox.peek() is None:
        assert time.monotonic() < until
        face.run(store.wait(ticket, 1.0))
    store.leave(ticket)
    grant = ticket.inbox.peek()
    assert isinstance(grant, Grant)
    return grant


def test_nothing_is_left_of_a_grant_that_was_lost(face: Any, store: MySQLStore, claim: Make, session: Any) -> None:
    """Its news stayed for a day, its bell and its entries for as long as the client."""
    grant = handed_over(face, store, claim)
    owner = grant.claim.owner
    (word,) = face.run(store.beat([grant], [], within=5.0))
    assert isinstance(word, Held)
    assert owner in store._told
    confirmed = grant._replace(confirmed=True)
    assert face.run(store.evict("n", grant.token))
    (word,) = face.run(store.beat([confirmed], [], within=5.0))
    assert isinstance(word, Lost)
    assert store._told == set()
    assert store._bells.where(owner) is None
    session.execute(f"SELECT COUNT(*) FROM `{store._desk.prefix}_news`")
    assert session.fetchone()[0] == 0
    until = time.monotonic() + 20.0
    while True:  # rung when its connection is used next
        face.run(store.inspect("n"))
        session.execute("SELECT IS_FREE_LOCK(%s)", (f"locksmith:{owner}",))
        if session.fetchone()[0] == 1:
            break
        assert time.monotonic() < until


def test_sweeping_takes_no_longer_than_its_beat_may(
    face: Any, store: MySQLStore, claim: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was there, and a server that stopped just then kept it from the keeper for a whole timeout."""
    grants = [face.run(store.acquire(claim(name), queue=False)) for name in "ab"]
    ask, given = store._desk.ask, []

    async def noted(text: str, *values: Any, within: float | None = None, **more: Any) -> Any:
        given.append((text, within))
        return await ask(text, *values, within=within, **more)

    monkeypatch.setattr(store._desk, "ask", noted)
    store._swept_at = float("-inf")
    assert all(isinstance(word, Held) for word in face.run(store.beat(grants, [], within=2.0)))
    (text, within) = given[-1]
    assert text == store._desk.sql.sweep
    assert within is not None
    assert within <= 2.0


def test_what_precedes_a_beat_is_taken_off_its_time(
    face: Any, store: MySQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request of a process asks for the tables' version before it, which had a time of its own."""
    given: list[float | None] = []
    now = [100.0]

    async def slow(text: str, *_: Any, within: float | None = None, **__: Any) -> Any:
        given.append(within)
        now[0] += 1.0
        if len(given) == 1:
            raise StoreProtocolError("no such table") from _Gone()
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(store._link, "ask", slow)
    monkeypatch.setattr(store._link, "now", lambda: now[0])
    store._desk._ready = True
    with pytest.raises(StoreUnavailable):
        face.run(store._desk.ask("CALL something()", within=5.0))
    assert given == [5.0, 4.0]


class _Gone(Exception):
    """As a driver says that a table is missing."""

    def __init__(self) -> None:
        super().__init__(1146, "Table doesn't exist")
