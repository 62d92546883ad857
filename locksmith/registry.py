"""From a URL, or a driver's client, to a store: by entry point, so that first-party stores use the outsiders' door.

Group ``locksmith.stores``: one entry per URL scheme, naming a Store class. Group ``locksmith.clients``: one entry per
top-level module of a driver, naming the Store class whose ``from_client`` takes that driver's clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from locksmith import redact
from locksmith.errors import ConfigurationError, DriverMissing, UnknownScheme
from locksmith.runtime import Runtime
from locksmith.store import Store

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

SCHEMES: Final = "locksmith.stores"
CLIENTS: Final = "locksmith.clients"


def open_store(target: object, *, runtime: Runtime, namespace: str) -> Store:
    """The store of a URL or of a driver's client. No I/O. Raises UnknownScheme, DriverMissing, ConfigurationError."""
    if isinstance(target, str):
        scheme, mark, _ = target.partition("://")
        if not mark:
            raise ConfigurationError(f"not a URL: {redact.url(target)}; write for example redis://localhost:6379/0")
        if redact.misread(target):
            raise ConfigurationError(
                f"an @ behind the host of a {scheme.rpartition('@')[2]}:// URL: in a user name or password write "
                "% / ? # @ as %25 %2F %3F %23 %40"
            )
        return _by_scheme(scheme.lower()).from_url(target, runtime=runtime, namespace=namespace)
    return _by_client(target).from_client(target, runtime=runtime, namespace=namespace)


def schemes() -> list[str]:
    """The URL schemes that installed packages answer to."""
    return sorted({entry.name for entry in _entries(SCHEMES)})


@dataclass(frozen=True, slots=True)
class Known:
    """A URL scheme that an installed package answers to."""

    scheme: str
    extra: str
    """What to install its driver with, as pip names it: "locksmith[redis]"."""
    store: type[Store] | None
    """None where the driver is not installed."""


def known() -> list[Known]:
    """All schemes with their stores, by name. Imports every driver that is installed. Raises ConfigurationError."""
    return [_known(entry) for entry in sorted(_entries(SCHEMES), key=lambda entry: entry.name)]


def _known(entry: EntryPoint) -> Known:
    try:
        return Known(entry.name, _extra(entry), _load(entry))
    except DriverMissing:
        return Known(entry.name, _extra(entry), None)


def _by_scheme(scheme: str) -> type[Store]:
    # "postgresql+psycopg" is SQLAlchemy's way to name a driver: the store is found by what stands before the plus.
    for wanted in (scheme, scheme.partition("+")[0]):
        for entry in _entries(SCHEMES).select(name=wanted):
            return _load(entry)
    known = ", ".join(f"{name}://" for name in schemes())
    raise UnknownScheme(f"no store for {scheme}://; installed are {known}")


def _by_client(client: object) -> type[Store]:
    # Several clients are for stores that stand on several servers.
    one = client[0] if isinstance(client, list | tuple) and client else client
    for cls in type(one).__mro__:
        for entry in _entries(CLIENTS).select(name=cls.__module__.partition(".")[0]):
            return _load(entry)
    known = ", ".join(sorted({entry.name for entry in _entries(CLIENTS)}))
    raise ConfigurationError(f"cannot connect to a {type(client).__name__}; pass a URL, or a client of {known}")


def _entries(group: str) -> EntryPoints:
    # Not at the top: this module is half of our import time, and a process that never connects should not pay it.
    from importlib.metadata import entry_points

    return entry_points(group=group)


def _load(entry: EntryPoint) -> type[Store]:
    try:
        store = entry.load()
    except ModuleNotFoundError as missing:
        raise DriverMissing(
            f"{entry.name}:// needs {missing.name}, which is not installed: pip install '{_extra(entry)}'"
        ) from missing
    if not (isinstance(store, type) and issubclass(store, Store)):
        raise ConfigurationError(f"entry point {entry.name} of {SCHEMES} does not name a Store class: {entry.value}")
    return store


def _extra(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "locksmith"
    return f"{package}[{entry.extras[0]}]" if entry.extras else package
