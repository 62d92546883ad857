"""Where things lie on the server, and the transactions that move them. Nothing here speaks to it.

- `locksmith/<namespace>/lock/<name>/<owner>`: a claim, on its client's lease for that ttl
- `locksmith/<namespace>/tomb/<owner>`: refuses this owner's requests
- `locksmith/<namespace>/cell/<name>`: a cell
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from locksmith import names, nodes
from locksmith.store import Claim
from locksmith_etcd import rpc

CHUNK: Final = 100
"""Reads in one transaction; servers take 128 operations unless they are told otherwise."""
TOGETHER: Final = 60
"""Names in one transaction that takes them, with two operations for each."""
_CREATE: Final = rpc.Compare.CREATE
_LESS: Final = rpc.Compare.LESS
_MOD: Final = rpc.Compare.MOD


class Keys:
    """The keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._root = f"locksmith/{names.encode(namespace) if namespace else ''}/".encode()
        self.locks = self._root + b"lock/"
        self.cells = self._root + b"cell/"
        self._nothing = self._root + b"nothing"

    def name(self, key: str) -> bytes:
        """What the keys of all claims to a name begin with."""
        return b"%b%b/" % (self.locks, key.encode())

    def claim(self, claim: Claim) -> bytes:
        """The key of a claim."""
        return b"%b%b/%b" % (self.locks, claim.key.encode(), claim.owner.encode())

    def tomb(self, owner: str) -> bytes:
        """The key of a tombstone."""
        return b"%btomb/%b" % (self._root, owner.encode())

    def cell(self, name: str) -> bytes:
        """The key of a cell."""
        return b"%bcell/%b" % (self._root, names.encode(name).encode())

    # Transactions about claims.

    def take_free(self, claim: Claim, value: bytes, lease: int) -> Any:
        """Put the claim where nobody has or wants the name; else read who does, and whether we are refused."""
        name, key, tomb = self.name(claim.key), self.claim(claim), self.tomb(claim.owner)
        return rpc.TxnRequest(
            # One comparison for all keys of the name: it holds where there are none.
            compare=[absent(tomb), absent(name, after(name))],
            success=[put(key, value, lease)],
            failure=[read_all(name), read(tomb)],
        )

    def take_behind(self, seen: int, claim: Claim, value: bytes, lease: int) -> Any:
        """Put the claim unless something new came to the name since the revision that was seen."""
        name = self.name(claim.key)
        unchanged = rpc.Compare(key=name, range_end=after(name), target=_MOD, result=_LESS, mod_revision=seen + 1)
        return rpc.TxnRequest(
            compare=[absent(self.tomb(claim.owner)), unchanged],
            success=[put(self.claim(claim), value, lease)],
            failure=[read_all(name), read(self.tomb(claim.owner))],
        )

    def take_all_free(self, claims: Sequence[Claim], values: Sequence[bytes], lease: int) -> Any:
        """Put all these claims where nobody has or wants any of the names; else read who does, name after name.

        What refuses owners is read after the names.
        """
        names = [self.name(claim.key) for claim in claims]
        tombs = [self.tomb(claim.owner) for claim in claims]
        keyed = zip(claims, values, strict=True)
        return rpc.TxnRequest(
            compare=[*map(absent, tombs), *(absent(name, after(name)) for name in names)],
            success=[put(self.claim(claim), value, lease) for claim, value in keyed],
            failure=[*map(read_all, names), *map(read, tombs)],
        )

    def enqueue(self, claim: Claim, value: bytes, lease: int) -> Any:
        """Put the claim behind all others of the name, and read them."""
        name, key, tomb = self.name(claim.key), self.claim(claim), self.tomb(claim.owner)
        return rpc.TxnRequest(
            compare=[absent(tomb), absent(key)],
            success=[put(key, value, lease), read_all(name)],
            failure=[read_all(name), read(tomb)],
        )

    def give_back(self, claim: Claim, token: int) -> Any:
        """Delete the claim that got this token."""
        key = self.claim(claim)
        return rpc.TxnRequest(compare=[created(key, token)], success=[delete(key)])

    def bury(self, claim: Claim, lease: int) -> Any:
        """Delete the claim, if it is there, and leave a tombstone."""
        return rpc.TxnRequest(success=[delete(self.claim(claim)), put(self.tomb(claim.owner), b"", lease)])

    def move(self, claim: Claim, token: int, lease: int) -> Any:
        """Attach the claim that got this token to another lease."""
        key = self.claim(claim)
        moved = rpc.PutRequest(key=key, lease=lease, ignore_value=True)
        return rpc.TxnRequest(compare=[created(key, token)], success=[rpc.RequestOp(request_put=moved)])

    def proof(self, reads: Iterable[Any]) -> Any:
        """Read through the members' consensus: what was a leader once, and does not know better, cannot answer this.

        Plain reads may be stale on releases that people run (etcd issue 20418); a transaction that writes is not, and
        deleting a key that never is leaves no trace.
        """
        return rpc.TxnRequest(success=[delete(self._nothing), *reads])


def after(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with a prefix."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def absent(key: bytes, end: bytes = b"") -> Any:
    """Holds where there is no such key, or none in the range."""
    return rpc.Compare(key=key, range_end=end, target=_CREATE, create_revision=0)


def created(key: bytes, revision: int) -> Any:
    """Holds where the key is there and was created in this revision."""
    return rpc.Compare(key=key, target=_CREATE, create_revision=revision)


def put(key: bytes, value: bytes, lease: int = 0, *, before: bool = False) -> Any:
    """Write a key; `before`: and say what was there."""
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease, prev_kv=before))


def delete(key: bytes, *, before: bool = False) -> Any:
    """Delete a key; `before`: and say what was there."""
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, prev_kv=before))


def read(key: bytes) -> Any:
    """Read a key."""
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key))


def read_all(prefix: bytes) -> Any:
    """Read all keys that begin with a prefix, in the order in which they were made."""
    return rpc.RequestOp(request_range=in_order(prefix))


def in_order(prefix: bytes) -> Any:
    """See `read_all`."""
    return rpc.RangeRequest(
        key=prefix,
        range_end=after(prefix),
        sort_target=rpc.RangeRequest.CREATE,
        sort_order=rpc.RangeRequest.ASCEND,
    )


def line(kvs: Iterable[Any]) -> list[nodes.Node]:
    """The nodes that were read. Raises StoreProtocolError."""
    return [nodes.Node.read(kv.value, order=kv.create_revision, token=kv.create_revision) for kv in kvs]
