"""All classes of cases for every store together: `StoreContract`."""

from __future__ import annotations

from typing import Any, Final

from locksmith.testing.contract.cells import CellCases
from locksmith.testing.contract.crowd import CrowdCases
from locksmith.testing.contract.grants import GrantCases
from locksmith.testing.contract.interrupts import InterruptCases
from locksmith.testing.contract.leases import LeaseCases
from locksmith.testing.contract.line import LineCases
from locksmith.testing.contract.listing import ListingCases
from locksmith.testing.contract.procs import ProcessCases
from locksmith.testing.contract.rates import RateCases
from locksmith.testing.contract.recipes import CellRecipeCases, ElectionCases
from locksmith.testing.contract.removal import RemovalCases
from locksmith.testing.contract.together import MultiLockCases
from locksmith.testing.contract.waits import WaitCases


class StoreContract(
    GrantCases,
    LineCases,
    RemovalCases,
    CellCases,
    ListingCases,
    LeaseCases,
    WaitCases,
    CrowdCases,
    ProcessCases,
    InterruptCases,
    ElectionCases,
    CellRecipeCases,
    MultiLockCases,
    RateCases,
):
    """Everything a store promises. Subclass it, say where your store is, and let pytest collect it."""


CASE_CLASSES: Final[tuple[type[Any], ...]] = StoreContract.__bases__
"""The classes of cases for every store. `ServerCases` are for stores with a server."""
