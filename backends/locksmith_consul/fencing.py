"""Checks for transactions of your own: they succeed only while a lease of this Consul is held."""

from __future__ import annotations

from typing import Any

from locksmith.errors import ConfigurationError
from locksmith.fencing import Leased, proofs
from locksmith_consul.store import ConsulStore


def checks(lease: Leased) -> list[dict[str, dict[str, Any]]]:
    """Operations to put at the head of a transaction (`PUT /v1/txn`, py-consul's `txn.put`), one for each name.

    A claim's key is written once and ends with its session, so the index at which it was made is there only while the
    lease is held; where it is not, the whole transaction is rolled back and answered with status 409. To be sent to the
    lease's own datacenter.

    Raises LeaseLost where the lease is known to be over, ConfigurationError for a lease of another kind of store. Sends
    nothing.
    """
    grants, store = proofs(lease), lease.store
    if not isinstance(store, ConsulStore):
        raise ConfigurationError(f"the lease is from {store.address}, not from Consul: its holder has no key here")
    keys = store._keys
    return [{"KV": {"Verb": "check-index", "Key": keys.claim(grant.claim), "Index": grant.token}} for grant in grants]
