"""Three servers: the leader dies, or freezes, while locks are held and waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import locksmith
from locksmith.testing.servers import ZooKeeperEnsemble

pytestmark = [pytest.mark.zookeeper, pytest.mark.timeout(180)]
TTL = 10.0


@pytest.fixture(scope="module")
def ensemble() -> Iterator[ZooKeeperEnsemble]:
    with ZooKeeperEnsemble() as made:
        yield made


def test_a_lease_and_a_place_in_line_survive_the_death_of_the_leader(ensemble, namespace) -> None:
    """SURVIVES_FAILOVER: still held, still closed to others, and the waiter has its turn afterwards."""
    # Much longer than an election takes on a busy machine: that is what the lease is to survive.
    with (
        locksmith.connect(ensemble.url, ttl=60.0, namespace=namespace) as one,
        locksmith.connect(ensemble.url, ttl=60.0, namespace=namespace) as other,
    ):
        lease = one.lock("n").acquire()
        got: list[locksmith.Lease] = []
        waiting = threading.Thread(target=lambda: got.append(other.lock("n").acquire(wait=90)))
        waiting.start()
        while not one.inspect("n").waiters:
            assert waiting.is_alive()
        leader = ensemble.leader
        leader.kill()
        ensemble.settle(2)
        try:
            assert one.lock("n").try_acquire() is None
            assert lease.held
            assert not got
            assert lease.release() is True
            waiting.join(60)
            assert got[0].token > lease.token
            assert got[0].release() is True
        finally:
            leader.start()
            ensemble.settle(3)


def test_a_frozen_leader_is_replaced_and_nobody_holds_twice(ensemble, namespace) -> None:
    """The two others elect a leader; who was connected to the frozen one moves on, or loses before another gets it."""
    with (
        locksmith.connect(ensemble.url, ttl=TTL, namespace=namespace) as one,
        locksmith.connect(ensemble.url, ttl=TTL, namespace=namespace) as other,
    ):
        lease = one.lock("n").acquire()
        leader = ensemble.leader
        leader.pause()
        try:
            taken = other.lock("n").acquire(wait=5)
        except (locksmith.AcquireTimeout, locksmith.StoreUnavailable):
            taken = None
        finally:
            leader.resume()
            ensemble.settle(3)
        if taken is not None:
            assert not lease.held
            assert taken.release()
        elif lease.held:
            assert lease.release() is True
        again = other.lock("n").acquire(wait=60)
        assert again.token > lease.token
        assert again.release()


def test_without_a_quorum_nothing_is_granted_and_no_lease_is_believed_in(ensemble, namespace) -> None:
    """P3, P9: what is left of the ensemble answers nothing that counts."""
    with locksmith.connect(ensemble.url + "?timeout=2", ttl=3.0, namespace=namespace) as client:
        lease = client.lock("n").acquire()
        down = ensemble.members[1:]
        for member in down:
            member.kill()
        try:
            assert lease.lost.wait(30)
            assert not lease.held
            with pytest.raises(locksmith.StoreUnavailable):
                client.lock("m").acquire(wait=1)
        finally:
            for member in down:
                member.start()
            ensemble.settle(3)
        again = client.lock("n").acquire(wait=60)
        assert again.token > lease.token
        assert again.release()
