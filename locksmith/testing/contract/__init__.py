"""What every store must do, as classes of cases that a store's author subclasses.

    from locksmith.testing.contract import StoreContract

    class TestMyStore(StoreContract):
        def url(self) -> str:
            return "mystore://localhost"

pytest collects it and runs every case in both runtimes. See docs/testing.md.

Names are loaded when they are first asked for: the processes that cases start need a face from here, and neither the
cases nor pytest, which take longer to import than all the rest.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from locksmith.testing.contract.base import Cases as Cases
    from locksmith.testing.contract.base import case as case
    from locksmith.testing.contract.faces import FACES as FACES
    from locksmith.testing.contract.faces import AsyncioFace as AsyncioFace
    from locksmith.testing.contract.faces import BlockingFace as BlockingFace
    from locksmith.testing.contract.faces import Face as Face
    from locksmith.testing.contract.faces import Job as Job
    from locksmith.testing.contract.outage import RestartCases as RestartCases
    from locksmith.testing.contract.outage import ServerCases as ServerCases
    from locksmith.testing.contract.whole import CASE_CLASSES as CASE_CLASSES
    from locksmith.testing.contract.whole import StoreContract as StoreContract

_MODULES: Final = (
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
"""Whose assertions pytest explains."""
_HOMES: Final = {
    "CASE_CLASSES": "whole",
    "FACES": "faces",
    "AsyncioFace": "faces",
    "BlockingFace": "faces",
    "Cases": "base",
    "Face": "faces",
    "Job": "faces",
    "RestartCases": "outage",
    "ServerCases": "outage",
    "StoreContract": "whole",
    "case": "base",
}

if "pytest" in sys.modules:  # before any of them is imported
    sys.modules["pytest"].register_assert_rewrite(*(f"{__name__}.{module}" for module in _MODULES))


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
