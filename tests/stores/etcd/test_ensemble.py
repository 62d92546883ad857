"""Three members: leaders change, members die and freeze, and grants survive it or are known to be lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from locksmith.store import Claim, Gone, Grant, Held, Lost, Unknown
from locksmith.testing.servers import EtcdEnsemble

pytestmark = [pytest.mark.etcd, pytest.mark.slow, pytest.mark.timeout(180)]
Make = Callable[..., Claim]


@pytest.fixture(autouse=True)
def _mended(ensemble: EtcdEnsemble) -> Any:
    yield
    ensemble.start()


def held(face: Any, store: Any, grant: Grant, within: float = 30.0) -> None:
    """The grant lives: found out as the keeper does, which asks again where it could not ask."""
    until = time.monotonic() + within
    while True:
        (word,) = face.run(store.beat([grant], [], within=3.0))
        if isinstance(word, Held):
            return
        assert isinstance(word, Unknown), word
        assert time.monotonic() < until, word.error


def test_a_new_leader_honours_grants_and_the_line(
    face: Any, claim: Make, ensemble: EtcdEnsemble, namespace: str
) -> None:
    store, other = face.store(ensemble.url, namespace), face.store(ensemble.url, namespace)
    mine = face.run(store.acquire(claim(), queue=False))
    ticket = face.run(other.acquire(claim(), queue=True))
    ensemble.leader.kill()
    held(face, store, mine)
    assert face.run(other.acquire(claim(), queue=False)) is None
    assert face.run(store.release(mine)) is True
    theirs = face.news(other, ticket, 40.0)
    assert isinstance(theirs, Grant)
    assert theirs.token > mine.token
    assert face.run(other.release(theirs)) is True


def test_each_member_may_go_in_turn(face: Any, claim: Make, ensemble: EtcdEnsemble, namespace: str) -> None:
    store = face.store(ensemble.url, namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    for member in ensemble.members:
        member.kill()
        held(face, store, grant)
        other = face.run(store.acquire(claim("m"), queue=False))
        assert isinstance(other, Grant)
        assert face.run(store.release(other)) is True
        member.start()
    assert face.run(store.release(grant)) is True


def test_a_frozen_leader_costs_time_and_not_the_grant(
    face: Any, claim: Make, ensemble: EtcdEnsemble, namespace: str
) -> None:
    store = face.store(ensemble.url, namespace)
    grant = face.run(store.acquire(claim(ttl=60.0), queue=False))
    leader = ensemble.leader
    leader.pause()
    try:
        held(face, store, grant)
    finally:
        leader.resume()
    held(face, store, grant)


def test_what_a_stale_leader_revoked_is_lost_at_the_next_beat(
    face: Any, claim: Make, ensemble: EtcdEnsemble, namespace: str
) -> None:
    """etcd issue 15247: a leader that stood still ends leases that were renewed with its successor."""
    store, operator = face.store(ensemble.url, namespace), face.store(ensemble.url, namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    waiting = face.run(store.acquire(claim(), queue=True))
    # As it would arrive here: the lease, and with it the keys, are gone before their time.
    face.run(operator._leases.revoke(grant.state.lease.id))
    words = face.run(store.beat([grant], [waiting], within=5.0))
    assert [type(word) for word in words] == [Lost, Gone]
    assert isinstance(face.news(store, waiting, beats=False), Gone)
    again = face.run(store.acquire(claim(), queue=False))
    assert isinstance(again, Grant), "the client's next claim is on a new lease"
    assert again.token > grant.token


def test_no_majority_is_no_answer(face: Any, claim: Make, ensemble: EtcdEnsemble, namespace: str) -> None:
    store = face.store(f"{ensemble.url}?timeout=2", namespace)
    grant = face.run(store.acquire(claim(ttl=120.0), queue=False))
    left = ensemble.leader
    for member in ensemble.members:
        if member is not left:
            member.kill()
    (word,) = face.run(store.beat([grant], [], within=2.0))
    assert isinstance(word, Unknown), "one member alone, though it led, proves nothing"
    ensemble.start()
    held(face, store, grant)
