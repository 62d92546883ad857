"""The benchmark suite tells the truth about what it measures; how fast anything is, no test judges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from locksmith.testing.servers import RedisServer
from locksmith_bench import contended, contenders, standing, suite, uncontended, uncontended_aio
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


def test_the_floor_and_locksmith_are_measured_in_both_runtimes(url: str) -> None:
    costs = uncontended.measure(url, contenders.of(url), rounds=2, pairs=10) + uncontended_aio.measure(url, 2, 10)
    floors = [cost for cost in costs if cost.contender.startswith("floor")]
    ours = [cost for cost in costs if cost.contender == "locksmith"]
    assert [cost.ratio for cost in floors] == [1.0, 1.0]
    assert [cost.runtime for cost in ours] == ["blocking", "asyncio"]
    assert all(cost.ratio > 0 and cost.pairs_per_second > 0 for cost in costs)


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
