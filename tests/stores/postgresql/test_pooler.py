"""Behind PgBouncer in transaction mode: no session is ours, so nothing is prepared, and waiters look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from locksmith import connect
from locksmith.store import Grant, Held, Ticket
from locksmith.testing.contract import StoreContract
from locksmith.testing.servers import PgBouncer, PostgreSQLServer

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def bouncer(postgresql_server: PostgreSQLServer) -> Iterator[PgBouncer]:
    with PgBouncer(postgresql_server, pool_size=3) as made:
        yield made


def hand_over(face: Any, one: Any, other: Any, claim: Any) -> None:
    held = face.run(one.acquire(claim(), queue=False))
    ticket = face.run(other.acquire(claim(), queue=True))
    assert isinstance(ticket, Ticket)
    assert face.run(one.release(held))
    for _ in range(100):
        face.run(other.wait(ticket, 0.1))
        if ticket.inbox.peek() is not None:
            break
    grant = ticket.inbox.peek()
    assert isinstance(grant, Grant)
    assert not grant.confirmed
    (word,) = face.run(other.beat([grant], [], within=5))
    assert isinstance(word, Held)
    assert face.run(other.release(grant))


def test_everything_works_without_a_session(face: Any, bouncer: PgBouncer, namespace: str, claim: Any) -> None:
    one, other = (face.store(bouncer.url, namespace) for _ in range(2))
    for _ in range(3):
        hand_over(face, one, other, claim)
    assert face.run(one.put("c", b"x")) == face.run(other.get("c")).version


def test_with_those_who_come_without_a_pooler(
    face: Any, bouncer: PgBouncer, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    """Both kinds of waiters of one name are told, each in its way."""
    behind, beside = face.store(bouncer.url, namespace), face.store(postgresql_server.url, namespace)
    hand_over(face, behind, beside, claim)
    hand_over(face, beside, behind, claim)


def test_the_doctor_tells(face: Any, bouncer: PgBouncer, postgresql_server: PostgreSQLServer, namespace: str) -> None:
    for url, level in ((bouncer.url, "warning"), (postgresql_server.url, "ok")):
        findings = face.run(face.store(url, namespace).diagnose())
        (about,) = [finding for finding in findings if "pooler" in finding.what]
        assert about.level == level


def test_a_pooler_that_keeps_sessions_may_be_named_so(
    face: Any, postgresql_server: PostgreSQLServer, namespace: str, claim: Any
) -> None:
    with PgBouncer(postgresql_server, pool_mode="session", pool_size=10) as bouncer:
        one, other = (face.store(f"{bouncer.url}?pooler=none", namespace) for _ in range(2))
        hand_over(face, one, other, claim)
        assert other._hub.channel.startswith("locksmith_")


def test_another_default_isolation_level(face: Any, namespace: str, claim: Any) -> None:
    """READ COMMITTED is asked for in each transaction, because no session keeps it."""
    with (
        PostgreSQLServer(config={"default_transaction_isolation": "serializable"}) as server,
        PgBouncer(server) as bouncer,
    ):
        one, other = (face.store(bouncer.url, namespace) for _ in range(2))
        hand_over(face, one, other, claim)
        assert face.run(one.release(face.run(one.acquire(claim(), queue=False))))


def test_many_waiters_share_one_look(bouncer: PgBouncer, namespace: str) -> None:
    """Threads of one client: each gets its turn, although only one of them asks at a time."""
    from concurrent.futures import ThreadPoolExecutor

    with connect(bouncer.url, namespace=namespace) as client:

        def work(_: int) -> int:
            with client.lock("n").acquire(wait=30) as lease:
                return lease.token

        with ThreadPoolExecutor(8) as pool:
            tokens = list(pool.map(work, range(24)))
    assert len(set(tokens)) == 24


@pytest.mark.slow
class TestBehindAPooler(StoreContract):
    """What the store promises it keeps here too."""

    rounds = 500

    @pytest.fixture(autouse=True)
    def _server(self, bouncer: PgBouncer) -> None:
        self.bouncer = bouncer

    def url(self) -> str:
        return self.bouncer.url
