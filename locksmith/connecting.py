"""What `connect` of both faces does: check the settings, find the store, refuse what it does not promise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from locksmith import registry
from locksmith.engine.core import Engine
from locksmith.errors import ConfigurationError, GuaranteeMissing
from locksmith.events import Hook, add_hook
from locksmith.recipes.permits import Permits, check_seconds, check_ttl
from locksmith.runtime import Runtime
from locksmith.store import Guarantee, Store

if TYPE_CHECKING:
    from locksmith.engine.heart import Heart


class Settings:
    """A client's engine and the defaults of its names."""

    def __init__(self, engine: Engine, ttl: float, waiter_ttl: float) -> None:
        self.engine = engine
        self.ttl = ttl
        self.waiter_ttl = waiter_ttl

    def permits(
        self,
        name: str,
        ttl: float | None,
        *,
        limit: int = 1,
        permits: int = 1,
        lock_delay: float = 0.0,
        strict_ttl: bool = False,
    ) -> Permits:
        """A name with this client's defaults."""
        return Permits(
            self.engine.store,
            name,
            ttl=self.ttl if ttl is None else ttl,
            waiter_ttl=self.waiter_ttl,
            limit=limit,
            permits=permits,
            lock_delay=lock_delay,
            strict_ttl=strict_ttl,
        )

    def together(self, names: Iterable[str], ttl: float | None, lock_delay: float, strict_ttl: bool) -> list[Permits]:
        """Several names with this client's defaults."""
        from locksmith.recipes.multilock import check_names  # not everybody has multi-locks

        return [self.permits(name, ttl, lock_delay=lock_delay, strict_ttl=strict_ttl) for name in check_names(names)]


def settle(
    target: object,
    runtime: Runtime,
    ttl: float,
    waiter_ttl: float,
    namespace: str,
    require: Guarantee | str | Iterable[str],
    hooks: Iterable[Hook],
    heartbeat: str = "thread",
) -> Settings:
    """The settings of a new client. Everything is checked before the store is made, and nothing is sent."""
    wanted = _flags(require)
    told: list[Hook] = []
    for hook in hooks:
        add_hook(told, hook)
    store = registry.open_store(target, runtime=runtime, namespace=namespace)
    _refuse_missing(store, wanted)
    check_ttl(ttl, store.min_ttl)
    check_seconds("waiter_ttl", waiter_ttl, positive=True)
    return Settings(Engine(store, runtime, told, _heart(heartbeat, target, store)), float(ttl), float(waiter_ttl))


def _heart(heartbeat: str, target: object, store: Store) -> Heart | None:
    if heartbeat == "thread":
        return None
    if heartbeat == "process":
        from locksmith.engine.heart import Heart  # subprocess and ctypes are for those who ask for them

        return Heart(target, store)
    raise ConfigurationError(f'heartbeat is "thread" or "process", not {heartbeat!r}')


def _refuse_missing(store: Store, wanted: Guarantee) -> None:
    missing = wanted & ~store.guarantees
    if missing:
        lacks = " and ".join(str(flag.name) for flag in missing)
        raise GuaranteeMissing(f"{store.address} does not promise {lacks}: use a store that does, or require less")


def _flags(require: Guarantee | str | Iterable[str]) -> Guarantee:
    if isinstance(require, Guarantee):
        return require
    wanted = Guarantee.NONE
    for name in [require] if isinstance(require, str) else require:
        try:
            wanted |= Guarantee[name.upper()]
        except (KeyError, AttributeError):
            known = ", ".join(str(flag.name).lower() for flag in Guarantee)
            raise ConfigurationError(f"there is no guarantee {name!r}; there are {known}") from None
    return wanted
