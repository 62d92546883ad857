"""The embedded store keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from locksmith.testing.contract import StoreContract


class TestSQLite(StoreContract):
    rounds = 2000  # each is a commit

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.file = tmp_path / "locks.db"

    def url(self) -> str:
        return f"sqlite:///{self.file}"
