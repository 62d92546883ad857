"""Checks in transactions of kazoo's: they pass while the lease is held, and not a moment longer."""

from __future__ import annotations

from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError, RolledBackError

import locksmith
from locksmith import Fence
from locksmith.errors import ConfigurationError, LeaseLost
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.servers import ZooKeeperServer
from locksmith_zookeeper.fencing import guard, paths

pytestmark = pytest.mark.zookeeper


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Face:
    return FACES[request.param]()


def commit(looker: KazooClient, path: str, value: bytes, lease: Any = None, check: str = "") -> bool:
    """A transaction with the guard of a lease, or with the check that an earlier one has put into its own."""
    transaction = looker.transaction()
    if lease is not None:
        guard(transaction, lease)
    else:
        transaction.check(check, -1)
    transaction.set_data(path, value)
    first, second = transaction.commit()
    if isinstance(first, Exception):
        assert isinstance(first, NoNodeError | RolledBackError)
        assert isinstance(second, Exception)
        return False
    return True


def test_it_passes_while_the_lease_is_held(
    face: Face, zookeeper_server: ZooKeeperServer, looker: KazooClient, namespace: str
) -> None:
    work = f"/work-{namespace}"
    looker.create(work)

    async def body() -> None:
        client = face.connect(zookeeper_server.url, namespace=namespace)
        lease = await client.lock("imp/ört").acquire(wait=20)
        (path,) = paths(lease)
        assert commit(looker, work, b"1", lease)
        assert commit(looker, work, b"2", lease), "and again"
        await client.evict("imp/ört", lease.token)
        assert not commit(looker, work, b"late", check=path), "nobody holds it"
        successor = await client.lock("imp/ört").acquire(wait=20)
        assert not commit(looker, work, b"late", check=path), "somebody else holds it"
        assert commit(looker, work, b"3", successor)
        await successor.release()
        with pytest.raises(LeaseLost):
            guard(looker.transaction(), successor)
        await client.close()

    face.run(body())
    assert looker.get(work)[0] == b"3"
    looker.delete(work)


def test_clients_with_a_chroot(zookeeper_server: ZooKeeperServer, looker: KazooClient, namespace: str) -> None:
    """The store's and the user's may differ: kazoo puts the chroot of its client before every path."""
    root = f"/app-{namespace}"
    looker.create(root)
    where = f"{zookeeper_server.host}:{zookeeper_server.port}"
    inside = KazooClient(hosts=f"{where}{root}", timeout=20.0)
    elsewhere = KazooClient(hosts=f"{where}{root}2", timeout=20.0)
    inside.start()
    try:
        inside.create("/work")
        with locksmith.connect(f"zookeeper://{where}{root}", namespace=namespace) as client:
            with client.lock("a").acquire(wait=20) as lease:
                assert commit(looker, f"{root}/work", b"1", lease)
                assert commit(inside, "/work", b"2", lease)
                with pytest.raises(ConfigurationError, match="chroot"):
                    guard(elsewhere.transaction(), lease)
            with pytest.raises(LeaseLost):
                commit(inside, "/work", b"3", lease)
        assert inside.get("/work")[0] == b"2"
    finally:
        inside.stop()
        inside.close()
        elsewhere.close()
    looker.delete(root, recursive=True)


def test_leases_of_others_are_refused() -> None:
    with locksmith.connect("memory://") as client, client.lock("a").acquire() as lease:
        with pytest.raises(ConfigurationError, match="not from ZooKeeper"):
            paths(lease)
        fence: Any = Fence.of(lease)
        with pytest.raises(ConfigurationError, match="pass the lease itself"):
            paths(fence)
