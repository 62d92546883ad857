"""What tests of locksmith, of its stores and of its users stand on. Imported by nothing in the library itself.

Names are loaded when they are first asked for, so that one of these helpers does not drag in all the others.
To offer another one, add a line to `_HOMES` and the same name to the imports for type checkers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from locksmith.testing.clock import VirtualClock as VirtualClock
    from locksmith.testing.proxy import Proxy as Proxy
    from locksmith.testing.servers import RedisServer as RedisServer
    from locksmith.testing.waiting import eventually as eventually

_HOMES: Final = {
    "Proxy": "locksmith.testing.proxy",
    "RedisServer": "locksmith.testing.servers",
    "VirtualClock": "locksmith.testing.clock",
    "eventually": "locksmith.testing.waiting",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
