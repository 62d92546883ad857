"""The messages: as rpc.proto says, and beside anybody else's."""

from __future__ import annotations

import importlib.util

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from locksmith_etcd import rpc


def test_what_is_checked_in_is_what_rpc_proto_says() -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("needs grpcio-tools: nox -s stubs")
    from etcd_stubs import FOLDER, generate

    made = generate()
    namespace: dict[str, object] = {}
    exec(made["rpc.py"], namespace)
    fresh = namespace["FILE"]
    assert isinstance(fresh, descriptor_pb2.FileDescriptorProto)
    assert fresh == rpc.FILE
    assert made["rpc.pyi"] == (FOLDER / "rpc.pyi").read_text("utf-8")


def test_they_live_beside_etcds_own_names_in_one_process() -> None:
    """python-etcd3 and aetcd register rpc.proto, and etcdserverpb, in the pool that all share."""
    theirs = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="locksmith_etcd", syntax="proto3")
    theirs.message_type.add(name="RangeRequest")
    pool = descriptor_pool.Default()
    pool.Add(theirs)
    other = message_factory.GetMessageClass(pool.FindMessageTypeByName("locksmith_etcd.RangeRequest"))
    assert other is not rpc.RangeRequest
    assert not other.DESCRIPTOR.fields
    assert rpc.RangeRequest.FromString(rpc.RangeRequest(key=b"k").SerializeToString()).key == b"k"


def test_the_numbers_are_etcds() -> None:
    """As etcd's API reference has them; a wrong one would be silence, not an error."""
    txn = rpc.TxnRequest(
        compare=[rpc.Compare(key=b"k", target=rpc.Compare.CREATE, create_revision=5, range_end=b"l")],
        success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"k", value=b"v", lease=9))],
    )
    compare, put = "10011a016b28058204016c", "0a016b1201761809"
    assert txn.SerializeToString().hex() == f"0a0b{compare}120a1208{put}"
