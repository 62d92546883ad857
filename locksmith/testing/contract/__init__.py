"""What every store must do, as classes of cases that a store's author subclasses.

    from locksmith.testing.contract import StoreContract

    class TestMyStore(StoreContract):
        def url(self) -> str:
            return "mystore://localhost"

pytest collects it and runs every case in both runtimes. See docs/testing.md.
"""

from __future__ import annotations

import pytest

_MODULES = (
    "base",
    "cells",
    "crowd",
    "grants",
    "interrupts",
    "leases",
    "line",
    "listing",
    "outage",
    "procs",
    "rates",
    "recipes",
    "removal",
    "together",
    "waits",
)
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _MODULES))

from locksmith.testing.contract.base import Cases, case  # noqa: E402
from locksmith.testing.contract.cells import CellCases  # noqa: E402
from locksmith.testing.contract.crowd import CrowdCases  # noqa: E402
from locksmith.testing.contract.faces import FACES, AsyncioFace, BlockingFace, Face, Job  # noqa: E402
from locksmith.testing.contract.grants import GrantCases  # noqa: E402
from locksmith.testing.contract.interrupts import InterruptCases  # noqa: E402
from locksmith.testing.contract.leases import LeaseCases  # noqa: E402
from locksmith.testing.contract.line import LineCases  # noqa: E402
from locksmith.testing.contract.listing import ListingCases  # noqa: E402
from locksmith.testing.contract.outage import RestartCases, ServerCases  # noqa: E402
from locksmith.testing.contract.procs import ProcessCases  # noqa: E402
from locksmith.testing.contract.rates import RateCases  # noqa: E402
from locksmith.testing.contract.recipes import CellRecipeCases, ElectionCases  # noqa: E402
from locksmith.testing.contract.removal import RemovalCases  # noqa: E402
from locksmith.testing.contract.together import MultiLockCases  # noqa: E402
from locksmith.testing.contract.waits import WaitCases  # noqa: E402

CASE_CLASSES: tuple[type[Cases], ...] = (
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
)
"""The classes of cases for every store; `StoreContract` has them all. `ServerCases` are for stores with a server."""


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


__all__ = [
    "CASE_CLASSES",
    "FACES",
    "AsyncioFace",
    "BlockingFace",
    "Cases",
    "Face",
    "Job",
    "RestartCases",
    "ServerCases",
    "StoreContract",
    "case",
]
