"""Who takes part: locksmith, the floor of each store, and the rivals that can run here.

What a store's module gives is one function, `lineup(url) -> Lineup` (see `base`): the blocking and the asyncio floor,
rivals for contended runs, what a hand-off is compared with, and the goal. `MODULES` names the module of each scheme,
which is imported when a URL of that scheme is measured, and imports its driver inside its functions. locksmith itself
is added here, for every scheme; a scheme without a module is measured with locksmith alone.

A contender makes a *pair*: a function that takes one free lock and gives it back. What it guarantees is written beside
its numbers, so that an unfair or unsafe lock does not look better than it is. A floor is the simplest safe pair of that
server, sent by hand through the same driver, connection and runtime.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from importlib.util import find_spec
from typing import Final

from locksmith_bench.contenders import ours
from locksmith_bench.contenders.base import Lineup

MODULES: Final = {
    "postgresql": "postgresql",
    "consul": "consul",
    "consuls": "consul",
    "etcd": "etcd",
    "mariadb": "mariadb",
    "mysql": "mariadb",
    "redis": "redis",
    "rediss": "redis",
    "sqlite": "sqlite",
    "zookeeper": "zookeeper",
}
"""The module of this package for each scheme, or for what stands before its plus."""


def lineup(url: str) -> Lineup:
    """Who takes part on this store, locksmith included, right after the floors."""
    found = _of_store(url)
    return replace(
        found,
        blocking=[*found.blocking[:1], ours.blocking(url), *found.blocking[1:]],
        aio=[*found.aio[:1], ours.aio(url), *found.aio[1:]],
        rivals={**ours.RIVAL, **found.rivals},
    )


def _of_store(url: str) -> Lineup:
    scheme = url.partition("://")[0].lower()
    module = MODULES.get(scheme) or MODULES.get(scheme.partition("+")[0])
    if module is None:
        return Lineup()
    found = importlib.import_module(f"{__name__}.{module}").lineup(url)
    assert isinstance(found, Lineup)
    return found


def rivals_missing() -> dict[str, str]:
    """Rivals that this version does not run, with the reason."""
    known = {"python-redis-lock": "redis_lock", "pottery": "pottery", "sherlock": "sherlock", "filelock": "filelock"}
    return {
        name: "installed, not part of this version" if find_spec(module) else "not installed"
        for name, module in known.items()
    }
