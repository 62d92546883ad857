"""etcd: a transaction and a delete by hand as the floor, and etcd's own lock service as the rival."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from locksmith_bench.contenders.base import AsyncPair, Contender, Give, Goal, Lineup, Pair, Take

SERVICE: Final = "etcd's lock service"
_WITHIN: Final = 60.0
_TTL: Final = 60


def lineup(url: str) -> Lineup:
    """Put a key on a lease where there is none, and delete it: exclusive, and safe when its holder dies."""
    del url
    name, promises = "floor: txn create + delete", "exclusion only"
    return Lineup(
        blocking=[Contender(name, promises, _floor, is_floor=True)],
        aio=[Contender(name, promises, _async_floor, is_floor=True)],
        rivals={SERVICE: _service},
        goal=Goal(pair=1.25, handoff=1.0, reference=SERVICE),
    )


def _taking(name: str, lease: int) -> Any:
    from locksmith_etcd import keys, rpc

    key = name.encode()
    return rpc.TxnRequest(compare=[keys.absent(key)], success=[keys.put(key, b"held", lease)])


@contextmanager
def _verbs(url: str) -> Iterator[dict[Any, Any]]:
    """The callables of a channel such as locksmith opens."""
    from locksmith_etcd.channels import Channels
    from locksmith_etcd.url import from_url

    channels = Channels(from_url(url))
    try:
        yield channels.current().verbs
    finally:
        channels.close()


@contextmanager
def _floor(url: str, name: str) -> Iterator[Pair]:
    from locksmith_etcd import rpc
    from locksmith_etcd.channels import DELETE, GRANT, REVOKE, TXN

    with _verbs(url) as verbs:
        lease = verbs[GRANT](rpc.LeaseGrantRequest(TTL=_TTL), timeout=_WITHIN).ID
        take, delete = verbs[TXN], verbs[DELETE]

        def pair() -> None:
            assert take(_taking(name, lease), timeout=_WITHIN).succeeded
            assert delete(rpc.DeleteRangeRequest(key=name.encode()), timeout=_WITHIN).deleted

        yield pair
        verbs[REVOKE](rpc.LeaseRevokeRequest(ID=lease), timeout=_WITHIN)


@asynccontextmanager
async def _async_floor(url: str, name: str) -> AsyncIterator[AsyncPair]:
    """Through grpc.aio, as anybody would write it; locksmith itself uses futures, which survive a fork."""
    import grpc.aio

    from locksmith_etcd import rpc
    from locksmith_etcd.channels import DELETE, GRANT, TXN, Channel
    from locksmith_etcd.url import from_url

    async with grpc.aio.insecure_channel(from_url(url).members[0]) as channel:
        verbs = Channel(channel, ours=False).verbs
        lease = (await verbs[GRANT](rpc.LeaseGrantRequest(TTL=_TTL), timeout=_WITHIN)).ID
        take, delete = verbs[TXN], verbs[DELETE]

        async def pair() -> None:
            assert (await take(_taking(name, lease), timeout=_WITHIN)).succeeded
            assert (await delete(rpc.DeleteRangeRequest(key=name.encode()), timeout=_WITHIN)).deleted

        yield pair


@contextmanager
def _service(url: str, name: str) -> Iterator[Take]:
    """The lock that the server itself offers (v3lockpb): a request waits in it until its turn comes."""
    import grpc

    from locksmith_etcd import rpc
    from locksmith_etcd.channels import GRANT, REVOKE
    from locksmith_etcd.url import from_url

    with _verbs(url) as verbs, grpc.insecure_channel(from_url(url).members[0]) as channel:
        lease = verbs[GRANT](rpc.LeaseGrantRequest(TTL=_TTL), timeout=_WITHIN).ID
        lock = channel.unary_unary("/v3lockpb.Lock/Lock")
        unlock = channel.unary_unary("/v3lockpb.Lock/Unlock")
        # Its messages in terms of ours, whose fields have the same numbers: LockRequest is {1: name, 2: lease},
        # LockResponse {1: header, 2: key}, UnlockRequest {1: key}.
        asked = rpc.DeleteRangeRequest(key=name.encode()).SerializeToString()
        asked += rpc.LeaseKeepAliveResponse(ID=lease).SerializeToString()

        def take() -> Give:
            key = rpc.DeleteRangeRequest.FromString(lock(asked, timeout=_WITHIN)).range_end
            given = rpc.DeleteRangeRequest(key=key).SerializeToString()
            return lambda: unlock(given, timeout=_WITHIN)

        yield take
        verbs[REVOKE](rpc.LeaseRevokeRequest(ID=lease), timeout=_WITHIN)
