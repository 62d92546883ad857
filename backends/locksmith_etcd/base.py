"""What cells and people share with claims: where things lie, and somebody to ask."""

from __future__ import annotations

from locksmith.store import Store
from locksmith_etcd.keys import Keys
from locksmith_etcd.leases import Leases
from locksmith_etcd.link import Link


class Asking(Store):
    """A store that can ask."""

    _link: Link
    _keys: Keys
    _leases: Leases
    _timeout: float
