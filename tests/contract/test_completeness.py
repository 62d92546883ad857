"""A test about the tests: every store of ours runs every case of the contract, in both runtimes."""

from __future__ import annotations

import importlib.util
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from locksmith.testing.contract import StoreContract

HERE = Path(__file__).parent
MODULES = {
    "ConsulStore": "test_consul",
    "EtcdStore": "test_etcd",
    "MemoryStore": "test_memory",
    "MySQLStore": "test_mariadb",
    "PostgreSQLStore": "test_postgresql",
    "SQLiteStore": "test_sqlite",
    "RedisClusterStore": "test_redis_cluster",
    "RedisQuorumStore": "test_redis_quorum",
    "RedisSentinelStore": "test_redis_sentinel",
    "RedisStore": "test_redis",
    "ZooKeeperStore": "test_zookeeper",
}
OURS = sorted({entry.value.partition(" ")[0].rpartition(":")[2] for entry in entry_points(group="locksmith.stores")
               if entry.dist is not None and entry.dist.name == "locksmith"})  # fmt: skip


def cases(cls: type) -> set[str]:
    return {name for name in dir(cls) if name.startswith("test_")}


def contract_of(store: str) -> Any:
    path = HERE / f"{MODULES[store]}.py"
    spec = importlib.util.spec_from_file_location(f"completeness_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, StoreContract) and value is not StoreContract
    ]
    return found


def test_every_store_of_ours_has_a_contract_run() -> None:
    assert sorted(MODULES) == OURS


@pytest.mark.parametrize("store", OURS)
def test_no_case_is_left_out_or_replaced(store: str) -> None:
    theirs = contract_of(store)
    assert cases(theirs) >= cases(StoreContract)
    own = {name for name in vars(theirs) if name in cases(StoreContract)}
    assert own == set(), "a case that is overridden is a case that is not run"


def test_every_case_runs_in_both_runtimes(request: pytest.FixtureRequest) -> None:
    ran = [item.name for item in request.session.items if "test_memory.py" in item.nodeid]
    if not ran:
        pytest.skip("the contract was not collected in this run")
    bare = {name.partition("[")[0] for name in ran}
    both = {f"{name}[{face}]" for name in bare for face in ("blocking", "asyncio")}
    if len(ran) >= 2 * len(cases(StoreContract)):  # nothing was deselected
        assert set(ran) >= both
