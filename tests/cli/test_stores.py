"""`locksmith stores`: what there is, what it promises, and what is missing. Nothing is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from example_urls import registered

pytestmark = pytest.mark.native_threads


def test_all_schemes_are_listed(cli: Any) -> None:
    done = cli("stores", "--json")
    assert done.status == 0
    assert registered() <= {row["store"].removesuffix("://") for row in done.last_json}
    (memory,) = [row for row in done.last_json if row["store"] == "memory://"]
    assert "fenced" in memory["guarantees"]
    assert "shared" not in memory["guarantees"]
    plain = cli("stores").out
    assert all(f"{scheme}://" in plain for scheme in registered())


def test_a_missing_driver_is_told_with_what_installs_it(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "redis.py").write_text("raise ModuleNotFoundError('No module named redis', name='redis')")
    done = cli("stores", "--json", PYTHONPATH=str(tmp_path))
    rows = {row["store"]: row for row in done.last_json}
    assert rows["redis://"] == {
        "store": "redis://",
        "guarantees": [],
        "missing": "pip install 'locksmith[redis]'",
    }
    assert rows["sqlite://"]["missing"] is None
    assert "pip install 'locksmith[redis]'" in cli("stores", PYTHONPATH=str(tmp_path)).out


def test_of_a_url_and_without_its_secrets(cli: Any) -> None:
    done = cli("stores", "redis://:hunter2@localhost:1", "memory://", "--json")
    assert [row["store"] for row in done.last_json] == ["redis://***@localhost:1", "memory://"]
    assert "shared" in done.last_json[0]["guarantees"]
