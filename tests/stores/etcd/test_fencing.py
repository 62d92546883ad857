"""Comparisons in transactions of somebody else's: they hold while the lease does, and not a moment longer."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import locksmith
from locksmith import Fence
from locksmith.errors import ConfigurationError, LeaseLost
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.servers import EtcdServer
from locksmith_etcd import rpc
from locksmith_etcd.fencing import held
from locksmith_etcd.keys import put

pytestmark = pytest.mark.etcd


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Face:
    return FACES[request.param]()


def commit(server: EtcdServer, compare: list[Any], key: str) -> bool:
    """A transaction on a channel of our own, which is as much a stranger to the store as a user's."""
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        call = channel.unary_unary(
            "/etcdserverpb.KV/Txn",
            request_serializer=rpc.TxnRequest.SerializeToString,
            response_deserializer=rpc.TxnResponse.FromString,
        )
        request = rpc.TxnRequest(compare=compare, success=[put(key.encode(), b"written")])
        return bool(call(request, timeout=20.0).succeeded)


def test_it_holds_while_the_lease_does(face: Face, etcd_server: EtcdServer, namespace: str) -> None:
    async def body() -> None:
        client = face.connect(etcd_server.url, namespace=namespace)
        lease = await client.lock("imp/ört").acquire(wait=20)
        compare = [one.compare() for one in held(lease)]
        assert commit(etcd_server, compare, f"{namespace}/work")
        assert commit(etcd_server, compare, f"{namespace}/work"), "and again"
        await client.evict("imp/ört", lease.token)
        assert not commit(etcd_server, compare, f"{namespace}/work"), "nobody holds it"
        successor = await client.lock("imp/ört").acquire(wait=20)
        assert not commit(etcd_server, compare, f"{namespace}/work"), "somebody else holds it"
        assert commit(etcd_server, [one.compare() for one in held(successor)], f"{namespace}/work")
        await successor.release()
        with pytest.raises(LeaseLost):
            held(successor)
        await client.close()

    face.run(body())


def test_the_json_gateway_takes_it(etcd_server: EtcdServer, namespace: str) -> None:
    with locksmith.connect(etcd_server.url, namespace=namespace) as client:
        lease = client.lock("import").acquire(wait=20)
        compare = [one.json() for one in held(lease)]
        write = [{"request_put": {"key": "YQ==", "value": "YQ=="}}]
        assert etcd_server.ask("/v3/kv/txn", compare=compare, success=write)["succeeded"]
        lease.release()
        assert not etcd_server.ask("/v3/kv/txn", compare=compare, success=write).get("succeeded")


def test_stubs_of_ones_own(etcd_server: EtcdServer, namespace: str) -> None:
    """Classes that somebody else made of etcd's API: the same bytes."""
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto.FromString(rpc.FILE.SerializeToString())
    pool.Add(file)
    stubs = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Compare"))
    assert stubs is not rpc.Compare
    with locksmith.connect(etcd_server.url, namespace=namespace) as client, client.lock("a").acquire(wait=20) as lease:
        (one,) = held(lease)
        theirs = one.compare(stubs)
        assert isinstance(theirs, stubs)
        assert theirs.SerializeToString() == one.compare().SerializeToString()
        assert one.create_revision == lease.token


def test_those_who_hold_side_by_side(etcd_server: EtcdServer, namespace: str) -> None:
    """Each has a key of its own, whose end says nothing of the others, whoever has the higher token."""
    with locksmith.connect(etcd_server.url, namespace=namespace) as client:
        gpu = client.semaphore("gpu", limit=2)
        first, second = gpu.acquire(wait=20), gpu.acquire(wait=20)
        older, newer = ([one.compare() for one in held(lease)] for lease in (first, second))
        assert commit(etcd_server, older, f"{namespace}/work")
        second.release()
        assert commit(etcd_server, older, f"{namespace}/work")
        assert not commit(etcd_server, newer, f"{namespace}/work")
        first.release()


def test_leases_of_others_are_refused(etcd_server: EtcdServer) -> None:
    with locksmith.connect("memory://") as client, client.lock("a").acquire() as lease:
        with pytest.raises(ConfigurationError, match="not from etcd"):
            held(lease)
        fence: Any = Fence.of(lease)
        with pytest.raises(ConfigurationError, match="pass the lease itself"):
            held(fence)
