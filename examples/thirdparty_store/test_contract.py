"""The store keeps the contract: every case of the suite, in both runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from locksmith.testing.contract import StoreContract


class TestDir(StoreContract):
    """A folder of its own for each case."""

    rounds = 2000  # each writes two files

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path / "locks"

    def url(self) -> str:
        return f"dir://{self.root}"
