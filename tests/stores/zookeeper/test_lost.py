"""Replies that never come, or come too late: nothing is held twice, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from testkit.replies import eventually, granted

import locksmith
from locksmith.errors import StoreUnavailable
from locksmith.store import Grant, Held
from locksmith.testing.proxy import Proxy

pytestmark = pytest.mark.zookeeper
TTL = 3.0


@pytest.fixture
def proxy(zookeeper_server) -> Iterator[Proxy]:
    with Proxy(zookeeper_server.address) as made:
        yield made


@pytest.fixture
def behind(face, proxy, zookeeper_server, namespace):
    """A store behind a network that can fail, which waits 2 s for an answer."""
    return face.store(f"{proxy.through(zookeeper_server.url)}?timeout=2", namespace)


def holders(looker, namespace: str, name: str = "n") -> list[str]:
    path = f"/{namespace}/lock/{name}"
    return looker.get_children(path) if looker.exists(path) else []


def test_a_node_whose_creation_was_answered_to_nobody_is_found_again(face, behind, proxy, claim, looker, namespace):
    """The connection breaks after the server made the node: asked again, there is one node, one grant."""
    assert face.run(behind.release(granted(face.run(behind.acquire(claim(), queue=False)))))
    wanted = claim()
    fault = proxy.lose_reply(matching=wanted.owner.encode(), reset=True)
    grant = granted(face.run(behind.acquire(wanted, queue=False)))
    assert fault.fired
    assert holders(looker, namespace) == [grant.state.node]
    assert face.run(behind.release(grant)) is True


def test_a_release_whose_answer_was_lost_is_a_release(face, behind, proxy, claim, looker, namespace):
    grant = granted(face.run(behind.acquire(claim(), queue=False)))
    fault = proxy.lose_reply(reset=True)
    assert face.run(behind.release(grant)) is True
    assert fault.fired
    assert holders(looker, namespace) == []


def test_a_request_that_is_answered_too_late_leaves_no_node(face, behind, proxy, claim, looker, namespace):
    """The network swallows everything for longer than we wait; what the server then does is undone, by ourselves."""
    assert face.run(behind.release(granted(face.run(behind.acquire(claim(ttl=20.0), queue=False)))))
    proxy.black_hole()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="unknown"):
        face.run(behind.acquire(claim(ttl=20.0), queue=False))
    assert time.monotonic() - began < 10
    proxy.heal()
    # The request arrives now. The claim has a ttl of 20 s; gone sooner, it was not the end of a session.
    eventually(lambda: not behind._session(20.0)._doubts, 10.0, "the doubt is settled")
    assert holders(looker, namespace) == []


def test_an_acquire_after_its_abandon_makes_nothing(face, behind, proxy, claim, looker, namespace):
    """Also one that was under way: abandon follows it through the same session, and is served after it."""
    assert face.run(behind.release(granted(face.run(behind.acquire(claim(), queue=False)))))
    late = claim()
    proxy.black_hole(to_server=False)  # the server does it, and nobody hears
    with pytest.raises(StoreUnavailable):
        face.run(behind.acquire(late, queue=False))
    proxy.heal()
    face.run(behind.abandon(late, tombstone=True))
    assert holders(looker, namespace) == []
    assert face.run(behind.acquire(late, queue=True)) is None
    assert holders(looker, namespace) == []


def test_an_owner_that_asks_again_after_an_unknown_outcome_keeps_what_it_gets(face, behind, proxy, claim):
    """The search for orphans must not take away what was granted to the same owner meanwhile."""
    wanted = claim(ttl=20.0)
    first = granted(face.run(behind.acquire(wanted, queue=False)))
    session = behind._session(20.0)
    session.doubt(wanted.owner, first.state.parent)  # as if its answer had been lost
    grant = granted(face.run(behind.acquire(wanted, queue=False)))
    assert grant.token == first.token
    session.sweep()
    (word,) = face.run(behind.beat([grant], [], within=5.0))
    assert isinstance(word, Held), word
    assert face.run(behind.release(grant))


def test_a_holder_behind_a_silent_network_loses_in_time_and_hurts_nobody(proxy, zookeeper_server, namespace):
    """P3: whoever is cut off has ceased to believe by the time that another holds."""
    lost = threading.Event()
    url = zookeeper_server.url
    with (
        locksmith.connect(proxy.through(url), ttl=TTL, namespace=namespace) as cut_off,
        locksmith.connect(url, ttl=TTL, namespace=namespace) as other,
    ):
        lease = cut_off.lock("x").acquire()
        lease.on_lost(lost.set)
        proxy.black_hole()
        successor = other.lock("x").acquire(wait=3 * TTL + 5)
        assert not lease.held
        assert successor.token > lease.token
        assert lost.wait(5.0)
        proxy.heal()
        with pytest.raises(locksmith.LeaseLost):
            lease.release()
        assert successor.held
        assert successor.release()
        again = cut_off.lock("x").acquire(wait=10)
        assert again.release()


def test_a_waiter_whose_connection_breaks_gets_its_turn(face, behind, proxy, claim, zookeeper_server, namespace):
    """Its watches are gone with the connection; they are set anew, without its beats."""
    other = face.store(zookeeper_server.url, namespace)
    held = granted(face.run(other.acquire(claim(), queue=False)))
    ticket = face.run(behind.acquire(claim(), queue=True))
    proxy.drop()
    eventually(lambda: behind._session(30.0).connected is False, 5.0, "noticed")
    assert face.run(other.release(held))
    face.run(behind.wait(ticket, 10.0))
    assert isinstance(ticket.inbox.peek(), Grant)
