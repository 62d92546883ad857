"""Checks for transactions of your own: they succeed only while a lease of this ensemble is held."""

from __future__ import annotations

from typing import Any

from kazoo.client import TransactionRequest

from locksmith.errors import ConfigurationError
from locksmith.fencing import Leased, proofs
from locksmith_zookeeper.spot import Spot
from locksmith_zookeeper.store import ZooKeeperStore


def guard(transaction: TransactionRequest, lease: Leased) -> None:
    """Have a transaction of kazoo's check that the lease is held; to be called before anything is added to it.

    Once it is not, `commit()` changes nothing and has a NoNodeError at the head of its results: kazoo raises nothing by
    itself. Raises LeaseLost where the lease is known to be over; ConfigurationError for a lease of another kind of
    store, and where the client's chroot hides the holder's node. Sends nothing.
    """
    chroot = str(transaction.client.chroot)
    inside = [_inside(path, chroot) for path in paths(lease)]
    for path in inside:
        # Any version: there is never another node at this path.
        transaction.check(path, -1)


def paths(lease: Leased) -> list[str]:
    """The holder's node, for each name of the lease, from the root of the ensemble: there only while it is held.

    Raises as `guard` does.
    """
    grants, store = proofs(lease), lease.store
    if not isinstance(store, ZooKeeperStore):
        raise ConfigurationError(f"the lease is from {store.address}, not from ZooKeeper: its holder has no node here")
    return [_spot(grant.state).path for grant in grants]


def _spot(state: Any) -> Spot:
    if not isinstance(state, Spot):
        raise ConfigurationError("this lease does not know its node: acquire it in the process that guards by it")
    return state


def _inside(path: str, chroot: str) -> str:
    root = chroot.rstrip("/")
    if not path.startswith(f"{root}/"):
        raise ConfigurationError(
            f"the holder's node {path} is not below {root}, the chroot of this client: use one without that chroot"
        )
    return path.removeprefix(root)
