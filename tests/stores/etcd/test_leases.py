"""Leases: one for each client and ttl, kept alive by beats alone, and gone when the client is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from locksmith.errors import SettingsConflict, StoreUnavailable
from locksmith.store import Claim, Gone, Grant, Held, Lost, Ticket
from locksmith.testing.proxy import Proxy
from locksmith.testing.servers import EtcdServer
from locksmith_etcd.channels import KEEPALIVE, TXN

pytestmark = pytest.mark.etcd
Make = Callable[..., Claim]


@pytest.fixture(scope="module")
def quiet_etcd() -> Any:
    """A server whose leases nobody else makes."""
    with EtcdServer() as server:
        yield server


def test_one_lease_for_each_ttl_and_none_when_closed(face: Any, claim: Make, quiet_etcd: EtcdServer) -> None:
    store = face.store(quiet_etcd.url, "t")
    grants = [face.run(store.acquire(claim(f"n{number}", ttl=30.0), queue=False)) for number in range(5)]
    grants.append(face.run(store.acquire(claim("m", ttl=7.5), queue=False)))
    assert [grant.ttl for grant in grants] == [30.0] * 5 + [8.0]
    assert len({grant.state.lease.id for grant in grants}) == 2
    assert len(quiet_etcd.leases()) == 2
    face.run(store.abandon(grants[0].claim, tombstone=True))
    face.run(store.put("c", b"1", ttl=60.0))
    face.run(store.put("c", b"2", ttl=60.0))
    assert len(quiet_etcd.leases()) == 4  # the tombstones' and the cell's: that of its first value is revoked
    assert face.run(store.delete("c"))
    face.run(store.close())
    assert quiet_etcd.leases() == []
    assert quiet_etcd.keys("locksmith/t/") == []


def test_a_refused_try_and_an_impatient_waiter_leave_no_key(face: Any, claim: Make, quiet_etcd: EtcdServer) -> None:
    store = face.store(quiet_etcd.url, "t")
    grant = face.run(store.acquire(claim(permits=2, limit=3), queue=False))
    mine = quiet_etcd.keys("locksmith/t/lock/")
    assert face.run(store.acquire(claim(permits=2, limit=3), queue=False)) is None
    assert quiet_etcd.keys("locksmith/t/lock/") == mine
    ticket = face.run(store.acquire(claim(permits=2, limit=3), queue=True))
    assert isinstance(ticket, Ticket)
    face.run(store.abandon(ticket.claim, tombstone=False))
    assert quiet_etcd.keys("locksmith/t/lock/") == mine
    assert face.run(store.release(grant))
    assert quiet_etcd.keys("locksmith/t/lock/") == []


def test_an_ended_lease_is_replaced_and_its_claims_are_lost(
    face: Any, claim: Make, etcd_server: EtcdServer, namespace: str
) -> None:
    store = face.store(etcd_server.url, namespace)
    old = face.run(store.acquire(claim(), queue=False))
    etcd_server.ask("/v3/lease/revoke", ID=old.state.lease.id)
    new = face.run(store.acquire(claim(), queue=False))
    assert isinstance(new, Grant)
    assert new.state.lease.id != old.state.lease.id
    words = face.run(store.beat([old, new], [], within=5.0))
    assert [type(word) for word in words] == [Lost, Held]


def test_an_evicted_waiter_is_told_at_once(face: Any, claim: Make, etcd_server: EtcdServer, namespace: str) -> None:
    store = face.store(etcd_server.url, namespace)
    assert face.run(store.acquire(claim(), queue=False))
    ticket = face.run(store.acquire(claim(), queue=True))
    from locksmith.testing.servers.etcd import text

    etcd_server.ask("/v3/kv/deleterange", key=text(ticket.state.key.decode()))
    assert isinstance(face.news(store, ticket, beats=False), Gone)


def test_the_watch_is_one_and_comes_back(face: Any, claim: Make, start_etcd: Any) -> None:
    """What was released while nobody watched is found when the watch is opened anew, without a beat."""
    server = start_etcd()
    store, other = face.store(server.url, "t"), face.store(server.url, "t")
    held = {name: face.run(other.acquire(claim(name), queue=False)) for name in "ab"}
    tickets = {name: face.run(store.acquire(claim(name), queue=True)) for name in "ab"}
    reader = store._hub._reader
    server.restart()
    for name in "ab":
        assert face.run(other.release(held[name])) is True
        assert isinstance(face.news(store, tickets[name], beats=False), Grant)
    assert store._hub._reader is reader


def test_lingering_ends_by_itself(face: Any, claim: Make, etcd_server: EtcdServer, namespace: str) -> None:
    """Engine.linger sends a beat with another ttl: from then on the key is on a lease that nobody keeps alive."""
    store = face.store(etcd_server.url, namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    beside = face.run(store.acquire(claim("m"), queue=False))
    short = grant._replace(claim=grant.claim._replace(ttl=1.0))
    (word,) = face.run(store.beat([short], [], within=5.0))
    assert isinstance(word, Held)
    assert word.ttl < 5.0
    ticket = face.run(store.acquire(claim(), queue=True))
    theirs = face.news(store, ticket)
    assert isinstance(theirs, Grant)
    assert theirs.token > grant.token
    assert isinstance(face.run(store.beat([beside], [], within=5.0))[0], Held)


def test_a_grant_of_another_process_is_kept_on_its_own_lease(
    face: Any, claim: Make, etcd_server: EtcdServer, namespace: str
) -> None:
    """As heartbeat="process" does: its child knows claim and token, and finds the lease by the key."""
    store, child = face.store(etcd_server.url, namespace), face.store(etcd_server.url, namespace)
    grants = [face.run(store.acquire(claim(name, ttl=20.0), queue=False)) for name in "ab"]
    told = [grant._replace(state=None) for grant in grants]
    told[1] = told[1]._replace(token=told[1].token + 1)
    words = face.run(child.beat(told, [], within=5.0))
    assert [type(word) for word in words] == [Held, Lost]
    assert words[0].ttl == 20.0
    assert words[0].since > grants[0].since


def test_a_claim_that_lingers_for_its_own_ttl_is_kept_alive_by_nobody(
    face: Any, claim: Make, etcd_server: EtcdServer, namespace: str
) -> None:
    """run_once(ttl=30, at_least=30): what is left rounds to the ttl; on the client's lease the name stayed closed."""
    store = face.store(etcd_server.url, namespace)
    grant = face.run(store.acquire(claim(), queue=False))
    beside = face.run(store.acquire(claim("m"), queue=False))
    (word,) = face.run(store.beat([grant._replace(claim=grant.claim._replace(ttl=29.9))], [], within=5.0))
    assert isinstance(word, Held)
    store._leases._by_ttl.clear()
    face.run(store._leases.revoke(beside.state.lease.id))
    assert [node.token for node in face.run(store.inspect("n")).holders] == [grant.token]
    assert face.run(store.inspect("m")).holders == []


def test_another_limit_that_is_about_to_be_refused_does_not_hurt_others(
    face: Any, claim: Make, etcd_server: EtcdServer, namespace: str
) -> None:
    """It stands in line for as long as its refusal takes; who has the right limit was refused as well."""
    store, wrong = face.store(etcd_server.url, namespace), face.store(etcd_server.url, namespace)
    grant = face.run(store.acquire(claim(), queue=False))

    async def too_late(*_: Any, **__: Any) -> None:
        """Its process was stopped."""

    abandon, wrong.abandon = wrong.abandon, too_late
    stranger = claim(limit=2)
    assert face.run(wrong.acquire(claim("warm"), queue=True))
    assert face.run(wrong.acquire(claim("warm"), queue=True))  # from now on it joins lines at once
    with pytest.raises(SettingsConflict):
        face.run(wrong.acquire(stranger, queue=True))
    assert face.run(store.acquire(claim(), queue=False)) is None
    ticket = face.run(store.acquire(claim(), queue=True))
    assert isinstance(ticket, Ticket)
    face.run(abandon(stranger, tombstone=False))
    assert face.run(store.release(grant))
    assert isinstance(face.news(store, ticket), Grant)


def test_a_cell_that_was_written_twice_for_want_of_a_reply_stays(
    face: Any, etcd_server: EtcdServer, namespace: str
) -> None:
    """The second write replaced the first one's, which lay on the same lease: with that the cell was gone."""
    with Proxy(etcd_server.address) as proxy:
        store = face.store(proxy.through(etcd_server.url), namespace)
        assert face.run(store.get("c")) is None
        fault = proxy.lose_reply(matching=b"the value", reset=True)
        version = face.run(store.put("c", b"the value", ttl=60.0))
        assert fault.fired
        cell = face.run(store.get("c"))
        assert cell is not None
        assert (cell.value, cell.version) == (b"the value", version)


@pytest.mark.parametrize("what", ["claim", "cell"])
def test_a_lease_that_ends_under_a_request_is_store_unavailable(
    face: Any, claim: Make, etcd_server: EtcdServer, namespace: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The package's own LeaseGone reached the caller, who knows the public errors alone."""
    store, other = face.store(etcd_server.url, namespace), face.store(etcd_server.url, namespace)
    grant = face.run(other.acquire(claim(), queue=False))
    ask = store._link.ask
    fatal = KEEPALIVE if what == "claim" else TXN

    async def late(verb: Any, request: Any, within: float | None = None) -> Any:
        if verb is fatal:
            number = request.ID if what == "claim" else request.success[0].request_put.lease
            etcd_server.ask("/v3/lease/revoke", ID=number)
        return await ask(verb, request, within)

    assert face.run(store.acquire(claim("warm"), queue=False))
    monkeypatch.setattr(store._link, "ask", late)
    with pytest.raises(StoreUnavailable, match="try again"):
        face.run(store.acquire(grant.claim, queue=False) if what == "claim" else store.put("c", b"1", ttl=60.0))
