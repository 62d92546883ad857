"""Three servers, one of which leads: grants, lines and cells survive the loss of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import locksmith
from locksmith.errors import StoreUnavailable
from locksmith.store import Claim, Grant, Held
from locksmith.testing.servers import ConsulEnsemble, ServerMissing, in_ci

pytestmark = [pytest.mark.consul, pytest.mark.slow]

Make = Callable[..., Claim]


@pytest.fixture(scope="module")
def ensemble() -> Iterator[ConsulEnsemble]:
    try:
        made = ConsulEnsemble(session_ttl_min=0.5).start()
    except ServerMissing as missing:
        if in_ci():
            raise
        pytest.skip(str(missing))
    with made:
        yield made


def patiently(ask: Callable[[], Any]) -> Any:
    """The answer, once there is a leader that gives one."""
    deadline = time.monotonic() + 40
    while True:
        try:
            return ask()
        except StoreUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_loss_of_the_leader(face: Any, ensemble: ConsulEnsemble, claim: Make, namespace: str):
    """SURVIVES_FAILOVER: held, in line and written before; held, in line and readable after; tokens grow."""
    leader = ensemble.leader
    follower = next(server for server in ensemble.servers if server is not leader)
    store = face.store(f"{follower.url}/?timeout=2", namespace)
    grant = face.run(store.acquire(claim(ttl=40.0), queue=False))
    ticket = face.run(store.acquire(claim(ttl=40.0), queue=True))
    version = face.run(store.put("c", b"kept"))
    leader.kill()
    try:
        patiently(lambda: face.run(store.get("c")))
        assert face.run(store.acquire(claim(ttl=40.0), queue=False)) is None
        words = face.run(store.beat([grant], [ticket], within=5.0))
        assert isinstance(words[0], Held)
        cell = face.run(store.get("c"))
        assert (cell.value, cell.version) == (b"kept", version)
        assert face.run(store.release(grant)) is True
        deadline = time.monotonic() + 30
        while ticket.inbox.peek() is None:
            assert time.monotonic() < deadline
            face.run(store.wait(ticket, 1.0))
        assert isinstance(ticket.inbox.peek(), Grant)
        assert ticket.inbox.peek().token > grant.token
    finally:
        leader.start()
        ensemble.settle()


def test_a_majority_that_is_gone(face: Any, ensemble: ConsulEnsemble, claim: Make, namespace: str):
    """No leader: nobody is told yes or no; afterwards all is as before."""
    last, *others = ensemble.servers
    store = face.store(f"{last.url}/?timeout=2", namespace)
    grant = face.run(store.acquire(claim(ttl=60.0), queue=False))
    for server in others:
        server.kill()
    try:
        with pytest.raises(StoreUnavailable):
            face.run(store.acquire(claim("m"), queue=False))
        words = face.run(store.beat([grant], [], within=3.0))
        assert not isinstance(words[0], Held) or words[0].since >= grant.since
        with pytest.raises(StoreUnavailable):
            face.run(store.release(grant))
    finally:
        for server in others:
            server.start()
        ensemble.settle()
    assert patiently(lambda: face.run(store.release(grant))) in (True, False)
    assert face.run(store.inspect("n")).holders == []


def test_a_leader_that_was_stopped(ensemble: ConsulEnsemble, namespace: str):
    """It wakes up as somebody else leads, and what it says then is not believed: exclusion holds, tokens grow."""
    leader = ensemble.leader
    follower = next(server for server in ensemble.servers if server is not leader)
    with (
        locksmith.connect(f"{follower.url}/?timeout=2", namespace=namespace, ttl=20.0) as client,
        locksmith.connect(f"{leader.url}/?timeout=2", namespace=namespace, ttl=20.0) as stuck,
    ):
        held = client.lock("n").acquire()
        leader.pause()
        thread = threading.Thread(target=lambda: patiently(lambda: client.lock("m").acquire(wait=1).release()))
        thread.start()
        thread.join(40)
        leader.resume()
        assert held.held
        assert patiently(lambda: stuck.lock("n").try_acquire()) is None
        assert patiently(held.release) is True
        after = patiently(lambda: stuck.lock("n").acquire(wait=10))
        assert after.token > held.token
        assert after.release() is True
