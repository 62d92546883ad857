"""The benchmark suite tells the truth about what it measures; how fast anything is, no test judges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from locksmith.testing.servers import RedisServer
from locksmith_bench import contended, contenders, goals, standing, suite, uncontended, uncontended_aio
from locksmith_bench.contenders import ours
from locksmith_bench.contenders.base import Goal
from locksmith_bench.stats import jain, percentile, spread


def test_the_numbers() -> None:
    assert jain([5, 5, 5, 5]) == 1.0
    assert jain([20, 0, 0, 0]) == 0.25
    assert percentile([1, 2, 3, 4], 0.99) == 4
    assert percentile([], 0.5) == 0.0
    assert spread([1.0, 2.0, 3.0]) == 1.0


def test_handoffs_are_counted_between_processes_only() -> None:
    turns = [(0, 10, 1, 0), (20, 30, 1, 0), (35_000_030, 40_000_000, 7_000_000, 1)]
    run = contended._judge("x", 2, 1.0, turns)
    assert run.handoff_p50_ms == 35.0
    assert run.to_another == 0.5
    assert run.worst_wait_ms == 7.0


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/bench.db"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


SERVERS = {
    "redis_sentinels": pytest.mark.redis,
    "redis_cluster": pytest.mark.redis,
    "redis_nodes": pytest.mark.redis,
    "postgresql_server": pytest.mark.postgresql,
    "mariadb_server": pytest.mark.mariadb,
    "zookeeper_server": pytest.mark.zookeeper,
    "etcd_server": pytest.mark.etcd,
    "consul_server": pytest.mark.consul,
}


@pytest.fixture(autouse=True)
def _few_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight interpreters that start at once, again and again, are most of a minute on a busy machine."""
    monkeypatch.setattr(goals, "PROCESSES", 2)


@pytest.fixture(params=[pytest.param(name, marks=mark) for name, mark in SERVERS.items()])
def server_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).url)


def test_every_server_has_a_floor_in_both_runtimes(server_url: str) -> None:
    test_the_floor_and_locksmith_are_measured_in_both_runtimes(server_url)


def test_what_a_hand_off_is_compared_with_can_be_measured(server_url: str) -> None:
    found = contenders.lineup(server_url)
    compared = goals.measure(server_url, EFFORT, lambda step: None).reference_ms
    assert (compared is not None and compared > 0) == bool(found.goal.reference)
    for rival in found.rivals:
        assert contended.measure(server_url, rival, processes=2, seconds=0.2).acquisitions_per_second > 0


def test_the_floor_and_locksmith_are_measured_in_both_runtimes(url: str) -> None:
    lineup = contenders.lineup(url)
    costs = uncontended.measure(url, lineup.blocking, rounds=2, pairs=10)
    costs += uncontended_aio.measure(url, lineup.aio, rounds=2, pairs=10)
    floors = [cost for cost in costs if cost.contender.startswith("floor")]
    ours = [cost for cost in costs if cost.contender == "locksmith"]
    assert [cost.ratio for cost in floors] == [1.0, 1.0]
    assert [cost.runtime for cost in ours] == ["blocking", "asyncio"]
    assert all(cost.ratio > 0 and cost.pairs_per_second > 0 for cost in costs)


@pytest.mark.redis
def test_a_duplicate_of_a_celery_task_is_measured(redis_server: RedisServer) -> None:
    read = contenders.lineup(redis_server.url).read
    assert read is not None
    floor, duplicate = uncontended.measure(redis_server.url, [read, ours.duplicate()], rounds=2, pairs=10)
    assert floor.ratio == 1.0
    assert duplicate.ratio > 0


def test_several_processes_share_one_name(url: str) -> None:
    run = contended.measure(url, "locksmith", processes=3, seconds=0.3)
    assert run.acquisitions_per_second > 0
    assert run.to_another > 0


def test_holding_and_waiting(url: str) -> None:
    assert standing.holding(url, 20, 0.1, ttl=6).threads == 1
    assert standing.waiting(url, 5, 0.1).count == 5


def test_json_is_the_last_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "_store", lambda url, quick, show: {"store": url})
    assert suite.run(["memory://"], quick=True, as_json=True) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["stores"] == [{"store": "memory://"}]
    assert result["machine"]["cores"]


def test_a_store_without_a_module_is_measured_alone() -> None:
    alone = contenders.lineup("memory://")
    assert [one.name for one in alone.blocking] == [one.name for one in alone.aio] == ["locksmith"]
    assert list(alone.rivals) == ["locksmith"]


EFFORT = goals.Effort(rounds=2, pairs=5, runs=1, seconds=0.2)


def test_goals_are_measured(url: str) -> None:
    row = goals.measure(url, EFFORT, lambda step: None)
    assert row.blocking is not None
    assert row.aio is not None
    assert row.handoff_ms > 0
    assert (row.reference_ms, row.handoff, row.goal.handoff) == (None, None, None)


def test_a_hand_off_is_compared_with_a_rival_or_a_yardstick(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = contenders.lineup(url)
    yardstick = next(one for one in found.blocking if one.is_floor)
    for reference in ("locksmith", yardstick.name):
        goal = Goal(handoff=2.0, reference=reference)
        compared = replace(found, yardstick=yardstick, goal=goal)
        monkeypatch.setattr(goals, "lineup", lambda url, compared=compared: compared)
        row = goals.measure(url, EFFORT, lambda step: None)
        assert row.reference_ms
        assert row.handoff == pytest.approx(row.handoff_ms / row.reference_ms)


def reached(**changes: float | None) -> goals.Reached:
    plain: dict[str, float | None] = {"blocking": 1.2, "aio": 1.2, "handoff_ms": 2.0, "reference_ms": 1.0}
    values: dict[str, Any] = {**plain, "handoff": 2.0, "jain": 0.99, **changes}
    return goals.Reached(store="x://", goal=Goal(pair=1.25, handoff=3.0, reference="a lock"), **values)


def test_a_goal_counts_as_met_only_where_it_was_measured() -> None:
    assert reached().met
    assert not reached(blocking=1.26).met
    assert not reached(aio=None).met
    assert not reached(handoff=3.1).met
    assert not reached(handoff=None).met
    assert not reached(jain=0.94).met
    no_order = replace(reached(jain=0.2), goal=Goal(jain=None))
    assert no_order.met


def test_the_table_has_a_row_for_each_store() -> None:
    first, rule, row = goals.table([reached()]).splitlines()
    assert first.count("|") == rule.count("|") == row.count("|")
    assert row == (
        "| `x://` | 1.20x | 1.20x | 1.25x | 2.000 ms | a lock: 1.000 ms | 2.00x | 3.00x | 0.990 | 0.95 | yes |"
    )
