"""A comparison for transactions of your own: they succeed only while a lease of this etcd is held."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, NamedTuple

from locksmith.errors import ConfigurationError
from locksmith.fencing import Leased, proofs
from locksmith_etcd import rpc
from locksmith_etcd.store import EtcdStore


class Held(NamedTuple):
    """What is so for as long as the lease is held: this key was created in this revision, and is there."""

    key: bytes
    create_revision: int

    def compare(self, message: Any = rpc.Compare) -> Any:
        """As a comparison of a TxnRequest. `message`: the class `Compare` of your own stubs of etcd's API."""
        return message(
            key=self.key,
            result=rpc.Compare.EQUAL,
            target=rpc.Compare.CREATE,
            create_revision=self.create_revision,
        )

    def json(self) -> dict[str, str]:
        """As a comparison for etcd's JSON gateway (`POST /v3/kv/txn`)."""
        key, revision = b64encode(self.key).decode("ascii"), str(self.create_revision)
        return {"key": key, "result": "EQUAL", "target": "CREATE", "create_revision": revision}


def held(lease: Leased) -> list[Held]:
    """What to compare, for each name of the lease, so that nothing is written after the lease has ended on the server.

    Raises LeaseLost where it is known to be over, ConfigurationError for a lease of another kind of store. Sends
    nothing.
    """
    grants, store = proofs(lease), lease.store
    if not isinstance(store, EtcdStore):
        raise ConfigurationError(f"the lease is from {store.address}, not from etcd: its holder has no key here")
    return [Held(store._keys.claim(grant.claim), grant.token) for grant in grants]
